# SPDX-License-Identifier: Apache-2.0
"""One process of test_distributed_reuse.py: gradients of one step under DistributedDataParallel."""

import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from tests.unit.gradients.test_engine import with_encoder
from tests.unit.gradients.test_reference import ROWS, SECONDS, double_batch
from tests.unit.gradients.test_reuse import Step

ALL = [(*row, seconds) for row, seconds in zip(ROWS, SECONDS, strict=True)]
# The second process has no translation, and other languages.
SHARES = {"even": [ALL[0::2], ALL[1::2]], "no translation": [ALL[:2], ALL[4:]]}


def batch_of(share: list[tuple]) -> dict[str, torch.Tensor]:
    return double_batch([row[:4] for row in share], [row[4] for row in share])


def gradients(model: DistributedDataParallel, share: list[tuple], chosen: list[int]) -> dict:
    """Of the wrapped model; with measured layers the backward pass begins below them."""
    step = Step(model.module, wrapped=model)
    if chosen:
        found, _, ready = step.reusing(batch_of(share), chosen)
        assert ready is not None
    else:
        found = step.backward(step.forward(batch_of(share), [])[1])
    return {name: g.clone() for name, g in found.items()}


def main(out: Path) -> None:
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    found = {}
    for name, shares in SHARES.items():
        model = DistributedDataParallel(with_encoder("default", "cpc").train())
        for way, chosen in (("ordinary", []), ("reused", [0, 1]), ("again", [])):
            found[name, way] = gradients(model, shares[rank], chosen)
    torch.save(found, out / f"{rank}.pth")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
