# SPDX-License-Identifier: Apache-2.0
"""One process of test_distributed_checkpoints.py: trainings that die inside an epoch and go on."""

import logging
import random
import sys
from pathlib import Path

import torch
from espnet2.train.distributed_utils import DistributedOption
from torch import Tensor, distributed

from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from tests.integration.distributed_worker import Shard
from tests.unit.train.interrupted import Killed, Noisy, dies, soup
from tests.unit.train.toy import parameters, run

CHANGES = {**soup("flat", interval=2), "max_epoch": 2}


class RankNoisy(Noisy):
    """Generators of every process are elsewhere."""

    def forward(self, x: Tensor, **batch: Tensor) -> dict:
        for _ in range(distributed.get_rank()):
            random.random()
            torch.rand(3)
        return super().forward(x, **batch)


def main(out: Path) -> None:
    option = DistributedOption(distributed=True, dist_backend="gloo")
    option.init_options()
    option.init_torch_distributed()
    rank, size = distributed.get_rank(), distributed.get_world_size()
    logging.basicConfig(level="INFO", filename=out / f"{rank}.log", force=True)

    def train(directory: str, trainer: type = ObjSoupTrainer, **changes: object) -> Tensor:
        return parameters(
            run(
                trainer,
                out / directory,
                RankNoisy(),
                data=Shard(rank, size),
                distributed_option=option,
                **{**CHANGES, **changes},
            )
        )

    def die(directory: str, after: int) -> None:
        try:
            train(directory, dies(after))
        except Killed:
            return
        raise AssertionError("expected to be killed")

    found = {"straight": train("straight")}
    die("killed", 3)
    distributed.barrier()  # the first process has written
    die("killed", 6)
    distributed.barrier()
    found["killed"] = train("killed")
    die("of_two", 4)
    distributed.barrier()
    found["of_one"] = train("of_one", max_epoch=1)
    torch.save(found, out / f"{rank}.pth")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
