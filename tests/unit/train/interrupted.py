# SPDX-License-Identifier: Apache-2.0
"""Trainings that die somewhere, and the comparison of what is left in the end."""

import random
from pathlib import Path

import numpy as np
import torch

from espnet_objsoup.train.abs_trainer import EpochContext
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer

from .test_checkpoint_files import load
from .test_soup_trainer import LAYERS, SOUPS
from .toy import ToyModel


class Killed(BaseException):
    """Stands for a kill where the process has to live on."""


class Dies(ObjSoupTrainer):
    """Killed after a micro-batch of the run, counted over epochs."""

    after: int
    count: int

    @classmethod
    def log(cls, context: EpochContext, summary_writer: object) -> None:
        super().log(context, summary_writer)
        cls.count += 1
        if cls.count > cls.after:
            raise Killed


def dies(after: int) -> type[Dies]:
    return type("DiesThere", (Dies,), {"after": after, "count": 0})


class Noisy(ToyModel):
    """Draws from every generator that training code may use."""

    def forward(self, x: torch.Tensor, **batch: torch.Tensor) -> dict:
        if self.training:
            noise = torch.rand_like(x) + random.random() + np.random.rand() + np.random.randn()
            x = x + 0.3 * noise
        return super().forward(x, **batch)


def state_of(directory: Path) -> dict:
    """What must be the same in the end, without times."""
    state = load(directory / "checkpoint.pth")
    for epoch in state["reporter"]["stats"].values():
        for means in epoch.values():
            for key in [key for key in means if "time" in key]:
                del means[key]
    del state["objsoup"]
    return state


def log_of(directory: Path) -> str:
    path = directory / "soup.jsonl"
    return path.read_text() if path.exists() else ""


def assert_same(a: object, b: object, place: str = "") -> None:
    assert type(a) is type(b), place
    if isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            assert_same(a[key], b[key], f"{place}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), place
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{place}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b) or (a.isnan() & b.isnan() | (a == b)).all(), place
    elif a != a:
        assert b != b, place
    else:
        assert a == b, place


def soup(name: str, interval: int = 2, **changes: object) -> dict:
    conf = {**SOUPS.get(name, {}), "layers": LAYERS, "weights_interval": 3}
    return {"trainer_conf": {**conf, "checkpoint_interval_steps": interval, **changes}}
