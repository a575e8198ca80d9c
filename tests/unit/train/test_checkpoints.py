# SPDX-License-Identifier: Apache-2.0
"""Trainings that are interrupted anywhere, and what they go on from."""

import json
import logging
import os
from pathlib import Path

import pytest
import torch
from espnet2.train.trainer import Trainer

from espnet_objsoup.train import checkpoints as names
from espnet_objsoup.train.checkpoint_files import CheckpointWriteError, DamagedCheckpointError
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer

from .interrupted import Killed, Noisy, assert_same, dies, log_of, soup, state_of
from .test_checkpoint_files import DAMAGES, damage, load
from .test_soup_trainer import SOUPS
from .toy import ToyData, run


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Uninterrupted trainings, made when first asked for."""
    known: dict[str, Path] = {}

    def of(**changes: object) -> Path:
        key = json.dumps(changes, sort_keys=True)
        if key not in known:
            known[key] = tmp_path_factory.mktemp("straight")
            run(ObjSoupTrainer, known[key], Noisy(), max_epoch=3, **changes)
        return known[key]

    return of


@pytest.mark.parametrize("name", [*SOUPS, "static"])
def test_resumed_inside_an_epoch_equals_uninterrupted(
    tmp_path: Path, straight: object, name: str
) -> None:
    changes = {**soup(name), "accum_grad": 1}
    for after in (4, 3, 7, 5):  # batches until the next death; an epoch has six
        with pytest.raises(Killed):
            run(dies(after), tmp_path, Noisy(), max_epoch=3, **changes)
    run(ObjSoupTrainer, tmp_path, Noisy(), max_epoch=3, **changes)
    expected = straight(**changes)
    assert_same(state_of(expected), state_of(tmp_path))
    assert log_of(expected) == log_of(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"accum_grad": 2, **soup("flat", interval=1)},
        {"grad_noise": True, **soup("flat")},
        {"scheduler": "valid", "n_optimizers": 2, **soup("bilevel", interval=1)},
        # A scan of five steps is cut in two.
        soup("flat", layers={"pattern": "linear", "policy": "conflict", "scan_steps": 5}),
    ],
    ids=["accumulation", "noise", "schedulers", "scan"],
)
def test_everything_else_goes_on_too(tmp_path: Path, straight: object, changes: dict) -> None:
    for after in (4, 8):
        with pytest.raises(Killed):
            run(dies(after), tmp_path, Noisy(), max_epoch=3, **changes)
    run(ObjSoupTrainer, tmp_path, Noisy(), max_epoch=3, **changes)
    expected = straight(**changes)
    assert_same(state_of(expected), state_of(tmp_path))
    assert log_of(expected) == log_of(tmp_path)


def test_nothing_is_trained_twice_that_a_checkpoint_holds(tmp_path: Path) -> None:
    changes = soup("flat", interval=2)
    with pytest.raises(Killed):
        run(dies(5), tmp_path, Noisy(), **changes)
    counting = dies(1000)
    run(counting, tmp_path, Noisy(), max_epoch=1, **changes)
    assert counting.count == 6 - 4


class Faulty(ToyData):
    """The batch after the checkpoint of step 2 cannot be used."""

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> list:
        result = super().build_iter(epoch)
        result[2][1]["y"][:] = float("nan")
        return result


def test_skipped_steps_are_told_once(tmp_path: Path) -> None:
    changes = soup("flat", interval=2)
    run(ObjSoupTrainer, tmp_path / "straight", Noisy(), data=Faulty(), **changes)
    with pytest.raises(Killed):
        run(dies(2), tmp_path / "killed", Noisy(), data=Faulty(), **changes)
    assert '"skipped"' in (tmp_path / "killed" / "soup.jsonl").read_text()
    run(ObjSoupTrainer, tmp_path / "killed", Noisy(), data=Faulty(), **changes)
    logs = [(tmp_path / name / "soup.jsonl").read_text() for name in ("straight", "killed")]
    assert logs[0] == logs[1]
    assert logs[0].count('"skipped"') == 2


@pytest.mark.parametrize("how", DAMAGES, ids=["truncated", "zeroed", "garbage", "flipped", "empty"])
def test_damaged_newest_falls_back_to_the_one_before(
    tmp_path: Path, straight: object, caplog: pytest.LogCaptureFixture, how: object
) -> None:
    changes = {**soup("flat"), "accum_grad": 1}
    with pytest.raises(Killed):
        run(dies(10), tmp_path, Noisy(), max_epoch=3, **changes)
    damage(tmp_path / names.STEP, how)
    with caplog.at_level(logging.INFO), pytest.raises(Killed):
        run(dies(0), tmp_path, Noisy(), max_epoch=3, **changes)
    assert f"{names.STEP}: damaged" in caplog.text
    assert "goes on from checkpoint.previous.pth (inside epoch 2, after batch 2)" in caplog.text
    damage(tmp_path / names.PREVIOUS, how)
    caplog.clear()
    run(ObjSoupTrainer, tmp_path, Noisy(), max_epoch=3, **changes)
    assert "goes on from checkpoint.pth (after epoch 1)" in caplog.text
    assert_same(state_of(straight(**changes)), state_of(tmp_path))


def test_damaged_checkpoint_of_an_epoch(
    tmp_path: Path, straight: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Without checkpoints inside epochs the epoch before is left."""
    changes = {**soup("flat", interval=0), "keep_nbest_models": 2}
    run(ObjSoupTrainer, tmp_path, Noisy(), max_epoch=2, **changes)
    assert not (tmp_path / names.STEP).exists()
    damage(tmp_path / names.EPOCH, DAMAGES[1])
    run(ObjSoupTrainer, tmp_path, Noisy(), max_epoch=3, **changes)
    assert "goes on from checkpoint.previous.pth (after epoch 1)" in caplog.text
    expected = straight(**changes)
    assert_same(state_of(expected), state_of(tmp_path))
    for average in expected.glob("*ave*.pth"):
        assert_same(load(average), load(tmp_path / average.name))


def test_only_damaged_checkpoints_are_an_error(tmp_path: Path) -> None:
    run(ObjSoupTrainer, tmp_path, max_epoch=1)
    damage(tmp_path / names.EPOCH, DAMAGES[0])
    with pytest.raises(DamagedCheckpointError, match="found none intact.*--resume false"):
        run(ObjSoupTrainer, tmp_path, max_epoch=2)
    run(ObjSoupTrainer, tmp_path, max_epoch=1, resume=False)
    assert (tmp_path / names.ASIDE).exists()


def test_new_training_does_not_go_on_from_an_old_one(tmp_path: Path) -> None:
    changes = soup("flat")
    run(ObjSoupTrainer, tmp_path, max_epoch=3, **changes)
    with pytest.raises(Killed):
        run(dies(4), tmp_path, max_epoch=3, resume=False, **changes)
    counting = dies(1000)
    run(counting, tmp_path, max_epoch=1, **changes)
    assert counting.count == 2


def test_espnets_trainer_reads_what_a_kill_inside_an_epoch_leaves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = soup("flat")
    with pytest.raises(Killed):
        run(dies(10), tmp_path, max_epoch=3, **changes)
    with caplog.at_level(logging.INFO):
        run(Trainer, tmp_path, max_epoch=3)
        assert "2/3epoch started" in caplog.text
        # Its checkpoint is the newest then, not that inside epoch 2.
        run(ObjSoupTrainer, tmp_path, max_epoch=4, **changes)
    assert "goes on from checkpoint.pth (after epoch 3)" in caplog.text
    assert (tmp_path / "4epoch.pth").exists()


@pytest.mark.parametrize("interval", [0, 2])
def test_disk_full_while_saving_loses_nothing(
    tmp_path: Path, straight: object, monkeypatch: pytest.MonkeyPatch, interval: int
) -> None:
    changes = {**soup("flat", interval=interval), "accum_grad": 1}
    saved = 0
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        nonlocal saved
        if str(target).endswith(".pth"):
            saved += 1
            if saved > 6:
                raise OSError(28, os.strerror(28))
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(CheckpointWriteError, match="No space left on device"):
            run(ObjSoupTrainer, tmp_path, Noisy(), max_epoch=3, **changes)
    assert not list(tmp_path.glob(".*"))
    run(ObjSoupTrainer, tmp_path, Noisy(), max_epoch=3, **changes)
    assert_same(state_of(straight(**changes)), state_of(tmp_path))


def test_disk_full_while_averaging_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def full(state: object, file: object) -> None:
        if "ave_2best" in str(file):
            Path(file).write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
        save(state, file)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(CheckpointWriteError, match=r"average .* bytes are free"):
            run(ObjSoupTrainer, tmp_path, max_epoch=2, keep_nbest_models=2)
    assert not list(tmp_path.glob("*ave*")) + list(tmp_path.glob(".*"))
    run(ObjSoupTrainer, tmp_path, max_epoch=2, keep_nbest_models=2)
    mean = sum(load(tmp_path / f"{e}epoch.pth")["linear.weight"] for e in (1, 2)) / 2
    torch.testing.assert_close(load(tmp_path / "valid.loss.ave.pth")["linear.weight"], mean)


def test_missing_epoch_file_and_links_are_made_again(tmp_path: Path) -> None:
    run(ObjSoupTrainer, tmp_path, max_epoch=2)
    expected = load(tmp_path / "2epoch.pth")
    for name in ("2epoch.pth", "latest.pth", "valid.loss.best.pth"):
        (tmp_path / name).unlink()
    run(ObjSoupTrainer, tmp_path, max_epoch=2)
    assert_same(load(tmp_path / "2epoch.pth"), expected)
    assert os.readlink(tmp_path / "latest.pth") == "2epoch.pth"
    assert (tmp_path / "valid.loss.best.pth").exists()


def test_averaging_names_a_missing_model(tmp_path: Path) -> None:
    run(ObjSoupTrainer, tmp_path, max_epoch=2, keep_nbest_models=2)
    (tmp_path / "1epoch.pth").unlink()
    with pytest.raises(FileNotFoundError, match=r"1epoch\.pth: not found; it is one of the best"):
        run(ObjSoupTrainer, tmp_path, max_epoch=2, keep_nbest_models=2)
