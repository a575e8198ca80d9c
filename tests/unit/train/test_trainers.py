# SPDX-License-Identifier: Apache-2.0
import logging
from pathlib import Path

import pytest
import torch
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.trainer import Trainer

from espnet_objsoup.train.abs_trainer import AbsTrainer
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from espnet_objsoup.train.options import TrainerConfError
from espnet_objsoup.train.state import SoupStateError

from .toy import ToyData, ToyModel, parameters, run


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accum_grad": 2},
        {"grad_clip_type": float("inf")},
        {"grad_noise": True},
        {"grad_clip": 1e9},
        {"grad_clip_type": 1.0},
        {"grad_clip_type": 0.5},
        {"accum_grad": 4},  # does not divide the epoch
        {"scheduler": "epoch"},
        {"scheduler": "valid", "max_epoch": 4},
        {"scheduler": "none"},
        {"n_optimizers": 2},
        {"n_optimizers": 2, "scheduler": "valid", "accum_grad": 3},
        {"no_forward_run": False, "log_interval": 1},
    ],
    ids=str,
)
def test_without_overridden_hooks_the_step_is_espnets(tmp_path: Path, changes: dict) -> None:
    ours = parameters(run(AbsTrainer, tmp_path / "ours", **changes))
    theirs = parameters(run(Trainer, tmp_path / "theirs", **changes))
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, parameters(ToyModel()))


@pytest.mark.parametrize("trainer", [AbsTrainer, ObjSoupTrainer])
@pytest.mark.parametrize(
    "changes",
    [
        {"keep_nbest_models": 2},
        {"keep_nbest_models": [1, 3], "nbest_averaging_interval": 2},
        {"patience": 1, "max_epoch": 12, "n_batches": 1},
        {
            "best_model_criterion": (("train", "loss", "min"), ("valid", "loss", "max")),
            "keep_nbest_models": 2,
        },
    ],
    ids=str,
)
def test_epochs_files_and_averages_are_espnets(
    tmp_path: Path, trainer: type, changes: dict
) -> None:
    settings = {"max_epoch": 5, **changes}
    data = ToyData(settings.pop("n_batches", 6))
    for name, cls in (("ours", trainer), ("theirs", Trainer)):
        run(cls, tmp_path / name, ToyModel(loss_mode="espnet"), data=data, **settings)
    files = {
        name: {p.name: p.resolve().name for p in (tmp_path / name).glob("*.pth")}
        for name in ("ours", "theirs")
    }
    assert files["ours"].pop("checkpoint.previous.pth") == "checkpoint.previous.pth"
    assert files["ours"] == files["theirs"]
    assert any("ave" in file for file in files["ours"])
    for file in files["ours"]:
        if file != "checkpoint.pth":
            ours, theirs = (
                torch.load(tmp_path / name / file, weights_only=True) for name in ("ours", "theirs")
            )
            for key, value in theirs.items():
                torch.testing.assert_close(ours[key], value, rtol=1e-12, atol=1e-14)


def test_training_stops_early(tmp_path: Path) -> None:
    run(AbsTrainer, tmp_path, data=ToyData(1), patience=1, max_epoch=50)
    assert not (tmp_path / "50epoch.pth").exists()
    epochs = len(torch.load(tmp_path / "checkpoint.pth", weights_only=True)["reporter"]["stats"])
    assert 2 <= epochs < 50


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


@pytest.mark.parametrize("accum_grad", [1, 2, 4])
def test_resumed_training_equals_uninterrupted(tmp_path: Path, accum_grad: int) -> None:
    straight = run(ObjSoupTrainer, tmp_path / "straight", max_epoch=4, accum_grad=accum_grad)
    run(ObjSoupTrainer, tmp_path / "two", max_epoch=2, accum_grad=accum_grad)
    resumed = run(ObjSoupTrainer, tmp_path / "two", max_epoch=4, accum_grad=accum_grad)
    assert torch.equal(parameters(straight), parameters(resumed))
    states = [
        torch.load(tmp_path / name / "checkpoint.pth", weights_only=True)["optimizers"][1]["soup"]
        for name in ("straight", "two")
    ]
    # What an epoch leaves of an accumulation is dropped: a checkpoint does not hold gradients.
    assert states[0]["steps"] == states[1]["steps"] == 4 * (6 // accum_grad)
    assert torch.equal(states[0]["counts"]["mean"], states[1]["counts"]["mean"])


@pytest.mark.parametrize("scheduler", ["batch", "epoch", "valid", "none"])
def test_resuming_restores_every_scheduler_and_optimiser(tmp_path: Path, scheduler: str) -> None:
    changes = {"scheduler": scheduler, "n_optimizers": 2}
    straight = run(ObjSoupTrainer, tmp_path / "straight", max_epoch=4, **changes)
    run(ObjSoupTrainer, tmp_path / "two", max_epoch=3, **changes)
    resumed = run(ObjSoupTrainer, tmp_path / "two", max_epoch=4, **changes)
    assert torch.equal(parameters(straight), parameters(resumed))


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"create_graph_in_tensorboard": True}, "create_graph_in_tensorboard: .* set it to false"),
        ({"sharded_ddp": True}, "sharded_ddp: .* plain distributed training"),
        ({"accum_grad": 0}, "accum_grad: expected a whole number >= 1, found 0"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(
    tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(TrainerConfError, match=message):
        run(AbsTrainer, tmp_path, **changes)


class ChoosesOptimiser(ToyModel):
    """As a GAN does."""

    def forward(self, **batch: object) -> dict:
        return {**super().forward(**batch), "optim_idx": 0}


def test_models_that_choose_an_optimiser_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainerConfError, match="chooses an optimiser by optim_idx"):
        run(AbsTrainer, tmp_path, ChoosesOptimiser())


def test_several_gpus_in_one_process_are_refused(tmp_path: Path) -> None:
    option = DistributedOption(ngpu=2)
    option.init_options()
    with pytest.raises(TrainerConfError, match="found 2 GPUs in one process"):
        run(AbsTrainer, tmp_path, distributed_option=option)


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
