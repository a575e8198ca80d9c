# SPDX-License-Identifier: Apache-2.0
import logging
from pathlib import Path

import pytest
import torch
from espnet2.train.trainer import Trainer

from espnet_objsoup.train.abs_trainer import AbsTrainer
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from espnet_objsoup.train.options import TrainerConfError
from espnet_objsoup.train.state import SoupStateError

from .toy import ToyModel, parameters, run


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accum_grad": 2},
        {"grad_clip_type": float("inf")},
        {"grad_noise": True},
        {"grad_clip": 1e9},
    ],
    ids=str,
)
def test_without_overridden_hooks_the_step_is_espnets(tmp_path: Path, changes: dict) -> None:
    ours = parameters(run(AbsTrainer, tmp_path / "ours", **changes))
    theirs = parameters(run(Trainer, tmp_path / "theirs", **changes))
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, parameters(ToyModel()))


def test_static_soup_of_one_normalisation_is_espnets_step(tmp_path: Path) -> None:
    model = ToyModel(loss_mode="espnet")
    ours = parameters(run(ObjSoupTrainer, tmp_path / "ours", model))
    theirs = parameters(run(Trainer, tmp_path / "theirs"))
    assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_weights_change_the_solution(tmp_path: Path) -> None:
    conf = {"weighting_conf": {"weights": {"asr/*": 1.0, "st/*": 0.0}}}
    weighted = parameters(run(ObjSoupTrainer, tmp_path / "a", trainer_conf=conf))
    plain = parameters(run(ObjSoupTrainer, tmp_path / "b"))
    assert not torch.allclose(weighted, plain, rtol=1e-3)


@pytest.mark.parametrize("accum_grad", [1, 2])
def test_resumed_training_equals_uninterrupted(tmp_path: Path, accum_grad: int) -> None:
    straight = run(ObjSoupTrainer, tmp_path / "straight", max_epoch=4, accum_grad=accum_grad)
    run(ObjSoupTrainer, tmp_path / "two", max_epoch=2, accum_grad=accum_grad)
    resumed = run(ObjSoupTrainer, tmp_path / "two", max_epoch=4, accum_grad=accum_grad)
    assert torch.equal(parameters(straight), parameters(resumed))
    states = [
        torch.load(tmp_path / name / "checkpoint.pth", weights_only=True)["optimizers"][1]["soup"]
        for name in ("straight", "two")
    ]
    assert states[0]["steps"] == states[1]["steps"] == 24 // accum_grad
    assert torch.equal(states[0]["expected_counts"], states[1]["expected_counts"])


def test_checkpoint_of_other_objectives_is_refused(tmp_path: Path) -> None:
    run(ObjSoupTrainer, tmp_path, max_epoch=1)
    other = ToyModel(("asr/de", "asr/fr", "st/de-en"))
    with pytest.raises(SoupStateError, match=r"st/fr-en.*st/de-en"):
        run(ObjSoupTrainer, tmp_path, other)


def test_checkpoints_go_between_trainers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(Trainer, tmp_path, max_epoch=1)
    with caplog.at_level(logging.WARNING):
        run(ObjSoupTrainer, tmp_path, max_epoch=2)
    assert "starts afresh" in caplog.text
    run(Trainer, tmp_path, max_epoch=3)
    assert (tmp_path / "3epoch.pth").exists()


def test_options_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainerConfError, match="create_graph_in_tensorboard"):
        run(AbsTrainer, tmp_path, create_graph_in_tensorboard=True)


def test_log_has_objectives_speed_and_time_to_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        run(ObjSoupTrainer, tmp_path, log_interval=3)
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("epoch 1/2")]
    assert [line.split(":")[0] for line in lines] == [
        "epoch 1/2, batch 3/6",
        "epoch 1/2, batch 6/6",
    ]
    for part in ("loss_soup=", "utterances/s", "to go: epoch", "lr "):
        assert part in lines[0]
    assert "asr/de" in caplog.text
