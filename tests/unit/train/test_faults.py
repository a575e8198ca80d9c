# SPDX-License-Identifier: Apache-2.0
"""Numbers that are not finite, wherever they come from; errors that name what they came with."""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, distributed

from espnet_objsoup.train.checked_audio import (
    CheckedAudio,
    UnreadableAudioError,
    check_audio_of,
    without_worker,
)
from espnet_objsoup.train.faults import NonFiniteTrainingError, naming
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from espnet_objsoup.train.process_group import LostProcessError, timeout_s, watched_group
from espnet_objsoup.train.soup_log import SoupLog

from .test_soup_trainer import Without, soup
from .toy import ToyModel, parameters, run


class _Explodes(torch.autograd.Function):
    """The identity, with a gradient that is not finite."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * float("inf")


class Exploding(ToyModel):
    """Losses are finite; gradients of chosen training batches, counted from 0, are not."""

    def __init__(self, batches: set[int]) -> None:
        super().__init__()
        self.faulty, self.count = batches, -1

    def forward(self, x: Tensor, y: Tensor, index: Tensor, **others: object) -> dict:
        self.count += self.training
        output = super().forward(x, y, index, **others)
        if self.training and self.count in self.faulty:
            for name in output["losses"]:
                output["losses"][name] = _Explodes.apply(output["losses"][name])
            per_utterance = output["utterance_losses"]["toy"]
            output["utterance_losses"]["toy"] = _Explodes.apply(per_utterance)
        return output


def soup_of(directory: Path) -> dict:
    state = torch.load(directory / "checkpoint.pth", weights_only=True)
    return state["optimizers"][1]["soup"]


def causes_of(directory: Path) -> list[dict]:
    rows = [json.loads(line) for line in (directory / "soup.jsonl").read_text().splitlines()]
    return [row["causes"] for row in rows if row["kind"] == "skipped"]


def test_gradient_that_is_not_finite_while_losses_are(tmp_path: Path) -> None:
    """The step is skipped as if the batch had not been there, and its utterances are named."""
    conf = {"trainer_conf": {"recipe": "static"}, "max_epoch": 1}
    run(ObjSoupTrainer, tmp_path / "a", Exploding({2}), **conf)
    run(ObjSoupTrainer, tmp_path / "b", data=Without({2}), **conf)
    models = [torch.load(tmp_path / d / "1epoch.pth", weights_only=True) for d in "ab"]
    for name, value in models[0].items():
        assert torch.equal(value, models[1][name]), name
    assert soup_of(tmp_path / "a")["faults"]["counts"] == {"gradient": 1}
    assert causes_of(tmp_path / "a") == [{"gradient": [f"u{i}" for i in range(8)]}]


def test_measured_gradient_that_is_not_finite(tmp_path: Path) -> None:
    """No NaN reaches the soup's memory or the parameters."""
    model = run(ObjSoupTrainer, tmp_path, Exploding({1, 4}), **soup("flat"))
    state = soup_of(tmp_path)
    assert state["faults"]["skipped"] == 2
    assert all("gramian" in cause or cause == "gradient" for cause in state["faults"]["counts"])
    assert parameters(model).isfinite().all()
    assert state["soup"]["weights"].isfinite().all()


def test_parameters_that_are_not_finite_stop_training(tmp_path: Path) -> None:
    """Nothing can be learnt any more: it does not go on skipping for ever."""
    model = ToyModel()
    with torch.no_grad():
        model.linear.weight[0, 0] = torch.nan
    with pytest.raises(NonFiniteTrainingError, match="4 steps in a row .*resume from an earlier"):
        run(ObjSoupTrainer, tmp_path, model, **soup("flat", max_nonfinite_steps=4))


def test_full_disk_names_the_soup_s_log(tmp_path: Path) -> None:
    (tmp_path / "soup.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device.*; run again .*soup\.jsonl"):
        SoupLog(tmp_path).write("refresh", 1, 1, {"x": 2})


def test_any_error_names_the_batch() -> None:
    names = [f"u{i}" for i in range(12)]
    with pytest.raises(RuntimeError) as caught, naming(names):
        raise RuntimeError("padding size")
    expected = f"In a batch of 12 utterances: {', '.join(names[:10])} and 2 more"
    assert caught.value.__notes__ == [expected]


@pytest.fixture
def audio(tmp_path: Path) -> Iterator[CheckedAudio]:
    """A loader of two utterances, one of which `speech_shape` says nothing about."""
    from espnet2.train.dataset import ESPnetDataset

    for key, n in (("a", 8000), ("b", 4000)):
        samples = 0.1 * np.random.default_rng(n).standard_normal(n)
        soundfile.write(tmp_path / f"{key}.wav", samples, 16000)
    scp = "".join(f"{key} {tmp_path}/{key}.wav\n" for key in "ab")
    (tmp_path / "wav.scp").write_text(scp)
    (tmp_path / "speech_shape").write_text("a 8000\nelsewhere 3\n")
    inputs = [(str(tmp_path / "wav.scp"), "speech", "sound")]
    dataset = ESPnetDataset(inputs, preprocess=lambda key, data: data)
    check_audio_of(dataset, inputs, [str(tmp_path / "speech_shape")])
    return dataset.loader_dict["speech"]


def test_audio_that_has_not_changed_is_as_it_was(audio: CheckedAudio) -> None:
    assert isinstance(audio, CheckedAudio)
    assert audio.lengths == {"a": 8000}
    assert (len(audio["a"]), len(audio["b"])) == (8000, 4000)
    assert list(audio) == ["a", "b"]
    assert len(audio) == 2
    assert "c" not in audio


def test_file_without_samples_or_without_name(audio: CheckedAudio, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "b.wav", np.zeros(0), 16000)
    with pytest.raises(UnreadableAudioError, match=r"b\.wav: expected audio, found no samples"):
        audio["b"]
    (tmp_path / "wav.scp").write_text(f"b {tmp_path}/b.wav\n")
    os.unlink(tmp_path / "a.wav")
    with pytest.raises(UnreadableAudioError, match="the file does not name it any more"):
        audio["a"]


@pytest.mark.parametrize("damage", ["gone", "cut off"])
def test_archive_that_changes(tmp_path: Path, damage: str) -> None:
    """The same for audio in archives, where kaldiio says what no user can read."""
    import kaldiio
    from espnet2.train.dataset import ESPnetDataset

    samples = (3000 * np.random.default_rng(0).standard_normal(4000)).astype(np.int16)
    with kaldiio.WriteHelper(f"ark,scp:{tmp_path}/x.ark,{tmp_path}/wav.scp") as writer:
        writer["a"] = 16000, samples
    inputs = [(str(tmp_path / "wav.scp"), "speech", "kaldi_ark")]
    dataset = ESPnetDataset(inputs, preprocess=lambda key, data: data)
    # kaldiio reads an entry that is cut off as a shorter one.
    (tmp_path / "speech_shape").write_text("a 4000\n")
    check_audio_of(dataset, inputs, [str(tmp_path / "speech_shape")])
    assert len(dataset["a"][1]["speech"]) == 4000
    if damage == "gone":
        (tmp_path / "x.ark").unlink()
    else:
        os.truncate(tmp_path / "x.ark", 3000)
    with pytest.raises(UnreadableAudioError, match=r"wav\.scp: utterance a: \S+x\.ark:2: ") as err:
        dataset["a"]
    assert {"gone": "No such file", "cut off": "cut off"}[damage] in str(err.value)


def test_message_of_a_worker_that_reads_is_taken_out_of_its_traceback() -> None:
    text = (
        "Caught UnreadableAudioError in DataLoader worker process 0.\nOriginal Traceback (most "
        'recent call last):\n  File "x.py", line 3\nespnet_objsoup.train.checked_audio.'
        "UnreadableAudioError: wav.scp: utterance u: x.wav: gone\n"
    )
    assert str(without_worker(UnreadableAudioError(text))) == "wav.scp: utterance u: x.wav: gone"
    plain = UnreadableAudioError("wav.scp: as it is")
    assert without_worker(plain) is plain


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("[../gloo/transport/tcp/pair.cc:545] Connection closed by peer. This is x", "has ended"),
        ("[../gloo/unbound_buffer.cc:78] Timed out waiting 3ms for recv", "within 7 s: one"),
        ("[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(", "within 7 s: one"),
        ("NCCL error: remote process exited or there was a network error", "has ended"),
    ],
)
def test_what_pytorch_says_of_other_processes_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, message: str, kind: str
) -> None:
    monkeypatch.setenv("OBJSOUP_PROCESS_TIMEOUT_S", "7")
    with pytest.raises(LostProcessError, match=kind) as caught, watched_group():
        raise RuntimeError(message)
    assert message.partition(". This")[0] in str(caught.value)


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="^shapes differ$") as caught, watched_group():
        raise RuntimeError("shapes differ")
    assert type(caught.value) is RuntimeError


def test_time_out_is_given_to_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict] = []
    monkeypatch.setattr(distributed, "init_process_group", lambda **options: given.append(options))
    original = distributed.init_process_group
    monkeypatch.setenv("OBJSOUP_PROCESS_TIMEOUT_S", "90")
    with watched_group():
        distributed.init_process_group(backend="gloo")
    monkeypatch.delenv("OBJSOUP_PROCESS_TIMEOUT_S")
    with watched_group():
        distributed.init_process_group(backend="gloo")
    assert given == [{"backend": "gloo", "timeout": timedelta(seconds=90)}, {"backend": "gloo"}]
    assert distributed.init_process_group is original


@pytest.mark.parametrize("value", ["0", "-3", "soon", "nan", "inf"])
def test_a_time_out_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OBJSOUP_PROCESS_TIMEOUT_S", value)
    with pytest.raises(ValueError, match="OBJSOUP_PROCESS_TIMEOUT_S: expected seconds from 1"):
        timeout_s()


@pytest.mark.parametrize("others", ["after epoch 3, number 7", "after epoch 2, number 5"])
def test_processes_agree_on_the_checkpoint(monkeypatch: pytest.MonkeyPatch, others: str) -> None:
    from torch import distributed

    from espnet_objsoup.train.process_group import LostProcessError, check_same

    def gather(found: list[str], own: str) -> None:
        found[:] = [own, others]

    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_gather_object", gather)
    own = "after epoch 3, number 7"
    if others == own:
        check_same(own, "checkpoint")
        return
    with pytest.raises(
        LostProcessError, match="process 0: after epoch 3.*process 1: after epoch 2"
    ):
        check_same(own, "checkpoint")
