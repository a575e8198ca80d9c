# SPDX-License-Identifier: Apache-2.0
"""Checkpoints inside an epoch with several processes, and with another number of them."""

from pathlib import Path

import pytest
import torch

from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer

from ..unit.train.interrupted import Killed, Noisy, dies
from ..unit.train.toy import run
from .checkpoint_worker import CHANGES
from .test_distributed import torchrun


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left; `of_one` begins with a checkpoint of one process."""
    out = tmp_path_factory.mktemp("checkpoints")
    with pytest.raises(Killed):
        run(dies(4), out / "of_one", Noisy(), **CHANGES)
    torchrun(2, "-m", "tests.integration.checkpoint_worker", str(out))
    return out


@pytest.fixture(scope="module")
def found(out: Path) -> list[dict[str, torch.Tensor]]:
    return [torch.load(out / f"{rank}.pth", weights_only=True) for rank in (0, 1)]


def test_every_process_goes_on_with_its_own_random_numbers(found: list[dict]) -> None:
    for of_process in found:
        assert torch.equal(of_process["straight"], of_process["killed"])
    assert torch.equal(found[0]["killed"], found[1]["killed"])
    assert torch.equal(found[0]["of_one"], found[1]["of_one"])


def test_one_process_goes_on_from_two(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    counting = dies(1000)
    before = torch.load(out / "of_two" / "checkpoint.step.pth", weights_only=True)
    with caplog.at_level("INFO"):
        run(counting, out / "of_two", Noisy(), **{**CHANGES, "max_epoch": 1})
    assert len(before["objsoup"]["inside"]["processes"]) == 2
    assert counting.count == 6 - 4
    assert "checkpoint is of 2 processes and 6 batches each, now there are 1 with 6" in caplog.text
    after = torch.load(out / "of_two" / "checkpoint.pth", weights_only=True)
    soups = [state["optimizers"][-1]["soup"]["steps"] for state in (before, after)]
    assert soups == [4, 6]


def test_two_processes_go_on_from_one(out: Path) -> None:
    log = (out / "0.log").read_text()
    assert "checkpoint is of 1 processes and 6 batches each, now there are 2 with 6" in log
    assert "(4 instead of 4)" in log


def test_an_epoch_of_another_number_of_processes_is_taken_over(out: Path) -> None:
    """At the end of an epoch all processes have the same state: nothing is to be said."""
    trained = run(ObjSoupTrainer, out / "straight", Noisy(), **{**CHANGES, "max_epoch": 3})
    state = torch.load(out / "straight" / "checkpoint.pth", weights_only=True)
    assert state["reporter"]["epoch"] == 3
    assert state["optimizers"][-1]["soup"]["steps"] == 18
    assert torch.equal(state["model"]["linear.weight"], trained.linear.weight)
