# SPDX-License-Identifier: Apache-2.0
"""One process of test_distributed.py: trains the toy model in several ways and saves parameters."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.trainer import Trainer
from torch import distributed

from espnet_objsoup.train.abs_trainer import AbsTrainer
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from tests.unit.train.toy import ToyData, ToyModel, parameters, run


class Shard(AbsIterFactory):
    """Every `world_size`-th row of each batch, or other objectives on every process."""

    # Known from the start: a first step's own counts would depend on how it is cut.
    expected_counts: ClassVar[dict[str, float]] = {"asr/de": 4.0, "asr/fr": 3.0, "st/fr-en": 1.0}

    def __init__(self, rank: int, world_size: int, by_objective: bool = False) -> None:
        self.data = ToyData(size=8)
        self.rank, self.world_size, self.by_objective = rank, world_size, by_objective

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> list:
        return [(self._ids(batch), self._cut(batch)) for _, batch in self.data.build_iter(epoch)]

    def _rows(self, batch: dict) -> torch.Tensor:
        n = len(batch["index"])
        if self.by_objective:  # the first objective on even processes only, the others elsewhere
            first = batch["index"] == 0
            rows = (first if self.rank % 2 == 0 else ~first).nonzero()[:, 0]
            return rows[self.rank // 2 :: self.world_size // 2]
        return torch.arange(self.rank, n, self.world_size)

    def _ids(self, batch: dict) -> list[str]:
        return [f"u{i}" for i in self._rows(batch).tolist()]

    def _cut(self, batch: dict) -> dict:
        return {name: value[self._rows(batch)] for name, value in batch.items()}


LAYERS = {"pattern": "linear", "scan_steps": 4, "threshold": 0.9, "last_k": 1}
SOUPS = {
    "flat": {"recipe": "flat", "layers": LAYERS, "weights_interval": 1},
    "selected": {"recipe": "flat", "layers": {**LAYERS, "scope": "selected"}},
    "random": {"recipe": "bilevel", "weighting": "random", "layers": LAYERS},
    "monitored": {"recipe": "static", "monitor": True, "layers": LAYERS},
}


class OneAfterTheOther(AbsIterFactory):
    """What processes see at the same time, as micro-batches of one process."""

    def __init__(self, shards: list[Shard]) -> None:
        self.shards = shards
        n = len(shards)
        self.expected_counts = {name: x / n for name, x in Shard.expected_counts.items()}

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> list:
        parts = zip(*(shard.build_iter(epoch) for shard in self.shards), strict=True)
        return [batch for batches in parts for batch in batches]


@contextmanager
def counted_collectives() -> Iterator[list[int]]:
    """Sizes in bytes of all reductions that Python code asks for; DDP's own are not among them."""
    sizes: list[int] = []
    original = distributed.all_reduce

    def count(values: torch.Tensor, *args: object, **kwargs: object) -> object:
        sizes.append(values.numel() * values.element_size())
        return original(values, *args, **kwargs)

    distributed.all_reduce = count
    try:
        yield sizes
    finally:
        distributed.all_reduce = original


def main(out: Path) -> None:
    option = DistributedOption(distributed=True, dist_backend="gloo")
    option.init_options()
    option.init_torch_distributed()
    rank, size = distributed.get_rank(), distributed.get_world_size()
    found = {}

    def train(name: str, trainer: type, loss_mode: str = "token", **changes: object) -> None:
        by_objective = changes.pop("by_objective", False)
        model = run(
            trainer,
            out / f"{name}_{rank}",
            ToyModel(loss_mode=loss_mode),
            data=Shard(rank, size, by_objective),
            distributed_option=option,
            **changes,
        )
        found[name] = parameters(model)
        if model.gradient_scale is not None:
            found[f"{name} factors"] = model.gradient_scale.factors

    train("espnet", Trainer)
    train("ours", AbsTrainer)
    train("espnet_accumulated", Trainer, accum_grad=2)
    train("ours_accumulated", AbsTrainer, accum_grad=2)
    train("static", ObjSoupTrainer)
    train("static_accumulated", ObjSoupTrainer, accum_grad=2)
    train("static_by_objective", ObjSoupTrainer, by_objective=True)
    for name, conf in SOUPS.items():
        with counted_collectives() as sizes:
            train(name, ObjSoupTrainer, trainer_conf=conf)
        found[f"{name} bytes"] = torch.tensor(sizes)
        train(f"{name}_accumulated", ObjSoupTrainer, trainer_conf=conf, accum_grad=2)
        train(f"{name}_by_objective", ObjSoupTrainer, trainer_conf=conf, by_objective=True)
    torch.save(found, out / f"{rank}.pth")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
