# SPDX-License-Identifier: Apache-2.0
"""What is not as it should be: the table in docs/inference.md has the same lines."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_objsoup.inference import InferenceError, Result, Speech2Text
from espnet_objsoup.zoo.errors import ModelError

RATE = 16000
DOCS = Path(__file__).parents[3] / "docs" / "inference.md"


@dataclass(frozen=True)
class Case:
    """A line of the table.

    Attributes:
        name: what is given.
        says: part of the message, or of the notice where it works all the same; empty: nothing.
        give: calls the model with it.
        works: it is decoded.
    """

    name: str
    says: str
    give: Callable[[Speech2Text, Path], list[Result]]
    works: bool = False


def wave(seconds: float = 0.5, channels: int = 1) -> np.ndarray:
    draw = np.random.default_rng(0)
    return (0.1 * draw.standard_normal((round(seconds * RATE), channels))).astype(np.float32)


def file(directory: Path, content: np.ndarray | bytes, rate: int = RATE) -> Path:
    path = directory / "speech.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        soundfile.write(path, content, rate, subtype="FLOAT")
    return path


def asr(model: Speech2Text, speech: object, lang: str | None = "fr") -> list[Result]:
    return model(speech, "asr", lang)


def with_nan() -> np.ndarray:
    samples = wave()
    samples[4000] = np.nan
    return samples


def corrupted(directory: Path) -> Path:
    with zipfile.ZipFile(directory / "model.zip", "w") as archive:
        archive.writestr("meta.yaml", "files: {}\n" * 100)
    content = (directory / "model.zip").read_bytes()
    (directory / "model.zip").write_bytes(content[: len(content) // 2])
    return directory / "model.zip"


CASES = [
    Case("no such file", "expected an audio file, found none", lambda m, d: asr(m, d / "x.wav")),
    Case("a directory", "expected an audio file, found one that cannot be read (Is a directory)",
         lambda m, d: asr(m, d)),
    Case("a file that is no audio", "expected audio that libsndfile reads",
         lambda m, d: asr(m, file(d, b"no audio at all" * 9))),
    Case("an empty file", "expected audio, found an empty file", lambda m, d: asr(m, file(d, b""))),
    Case("a file that is cut off", "the file is cut off; replace it",
         lambda m, d: asr(m, file(d, file(d, wave()).read_bytes()[:9000]))),
    Case("audio without samples", "expected audio, found no samples",
         lambda m, d: asr(m, file(d, wave(0)))),
    Case("0.01 s", "of speech, found 0.010 s", lambda m, d: asr(m, file(d, wave(0.01)))),
    Case("NaN or infinity", "found NaN or infinity at 0.250 s", lambda m, d: asr(m, with_nan())),
    Case("floating-point samples out of range", "expected samples in -1 .. 1, found",
         lambda m, d: asr(m, 32768 * wave())),
    Case("several utterances in one array", "several utterances are given as a list",
         lambda m, d: asr(m, np.zeros((20, RATE), np.float32))),
    Case("integers of 64 bits, or of 32 bits with the values of 16",
         "samples of 16 bits are given as numpy.int16",
         lambda m, d: asr(m, (20000 * wave()[:, 0]).astype(np.int32))),
    Case("stereo", "2 channels are mixed down to one", lambda m, d: asr(m, file(d, wave(1, 2))),
         works=True),
    Case("8 kHz (or any other rate)", "", lambda m, d: asr(m, file(d, wave(), 8000)), works=True),
    Case("more audio than the model takes at once", "",
         lambda m, d: asr(m, file(d, wave(20))), works=True),
    Case("a language that the model does not know", "lang: expected one of en, fr, found 'xx'",
         lambda m, d: asr(m, wave(), "xx")),
    Case("a pair that was not trained", "st/en-fr was not trained: what comes out is a guess",
         lambda m, d: m(wave(), "st", "en", "fr"), works=True),
    Case("no target, where the model has none for the language",
         "the model was not trained to translate from 'en'", lambda m, d: m(wave(), "st", "en")),
    Case("a target that the model does not know",
         "target_lang: expected one of en, fr, found 'xx'",
         lambda m, d: m(wave(), "st", "fr", "xx")),
    Case("a task that the model lacks", "task: the model has heads for asr, st, found 'tts'",
         lambda m, d: m(wave(), "tts", "fr")),
    Case("`nbest` above the beam", "nbest: expected at most beam_size 3, found 9",
         lambda m, d: m(wave(), "asr", "fr", nbest=9)),
    Case("`word_times` of a translation", "word_times: expected task asr and a model with CTC",
         lambda m, d: m(wave(), "st", "fr", word_times=True)),
    Case("a device that is not there", "device: expected one that this torch can use",
         lambda m, d: Speech2Text(d / "c", d / "m", device="cuda:99")(wave())),
    Case("another dtype", "dtype: expected one of float32, float64, float16, bfloat16",
         lambda m, d: Speech2Text(d / "c", d / "m", dtype="int8")(wave())),
    Case("a corrupted zip", "model.zip: expected",
         lambda m, d: Speech2Text.from_pretrained(corrupted(d), cache_dir=d)(wave())),
    Case("no such model", "found no such file or directory",
         lambda m, d: Speech2Text.from_pretrained(d / "none", cache_dir=d)(wave())),
    Case("a tag, and no network", "HF_ENDPOINT",
         lambda m, d: Speech2Text.from_pretrained("user/none", cache_dir=d)(wave())),
]  # fmt: skip


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(
        "huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None)
    )


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(
    small: Speech2Text, tmp_path: Path, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    if case.works:
        (result,) = case.give(small, tmp_path)
        assert result.audio_s > 0
        assert case.says in caplog.text
        assert bool(case.says) == bool(caplog.text)
        return
    with pytest.raises((InferenceError, ModelError)) as caught:
        case.give(small, tmp_path)
    assert case.says in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_page_has_the_line(case: Case) -> None:
    lines = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in DOCS.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    (line,) = [cells for cells in lines if cells[0] == case.name]
    assert line[1] == ("decoded" if case.works else "error")
    assert case.says in line[2].replace("`", "") or case.says in line[2]
