# SPDX-License-Identifier: Apache-2.0
"""`objsoup transcribe` and `objsoup translate` with a model, on good and bad files."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webvtt

from espnet_objsoup.bin import transcribe, translate
from espnet_objsoup.inference import SearchOptions, Speech2Text
from espnet_objsoup.transcription.model import ModelChoice
from tests.unit.experiment import make_experiment

RATE_HZ = 16000


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_experiment(tmp_path_factory.mktemp("exp") / "tiny")


@pytest.fixture(scope="module")
def speech2text(experiment: Path) -> Speech2Text:
    options = SearchOptions(beam_size=2, maxlenratio=-20)
    return Speech2Text.from_pretrained(experiment / "model.pth", options=options)


@pytest.fixture
def here(
    tmp_path: Path,
    experiment: Path,
    speech2text: Speech2Text,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A working directory with audio; the model is loaded once for all tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OBJSOUP_CACHE", str(tmp_path / "cache"))
    load = ModelChoice.load

    def loaded(choice: ModelChoice) -> Speech2Text:
        same = choice.options == speech2text.options and choice.segments == speech2text.segments
        return speech2text if same else load(choice)

    monkeypatch.setattr(ModelChoice, "load", loaded)
    (tmp_path / "model").symlink_to(experiment)
    (tmp_path / "search.yaml").write_text("beam_size: 2\nmaxlenratio: -20\n")
    draw = np.random.default_rng(0)
    noise = (draw.standard_normal(70 * RATE_HZ) * 0.1).astype(np.float32)
    soundfile.write("mono.wav", noise[: 2 * RATE_HZ], RATE_HZ)
    soundfile.write("stereo.flac", noise[: 3 * RATE_HZ].reshape(-1, 2), RATE_HZ)
    soundfile.write("telephone.mp3", noise[:8000], 8000)
    soundfile.write("long.wav", noise, RATE_HZ)
    return tmp_path


def run(command: object, *words: str) -> int:
    return command.main(["--model", "model/model.pth", "--config", "search.yaml", *words])


def test_texts_are_those_of_speech2text(
    here: Path, speech2text: Speech2Text, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ["mono.wav", "stereo.flac", "telephone.mp3"]
    assert run(transcribe, *names, "--lang", "fr") == 0
    expected = [speech2text(name, lang="fr")[0].text for name in names]
    lines = [f"{name}\t{text}" for name, text in zip(names, expected, strict=True)]
    assert capfd.readouterr().out.splitlines() == lines
    assert run(translate, "mono.wav", "--lang", "fr", "--nbest", "2", "--format", "jsonl") == 0
    record = json.loads(capfd.readouterr().out)
    results = speech2text("mono.wav", task="st", lang="fr", nbest=2)
    assert [one["text"] for one in record["nbest"]] == [result.text for result in results]
    assert record["score"] == pytest.approx(results[0].score, rel=1e-4)
    assert (record["lang"], record["target_lang"]) == ("fr", "en")


def test_long_audio_becomes_subtitles(here: Path, speech2text: Speech2Text) -> None:
    assert run(transcribe, "long.wav", "--lang", "en", "--format", "vtt", "--output", "o.vtt") == 0
    captions = list(webvtt.read("o.vtt"))
    (result,) = speech2text("long.wav", lang="en")
    assert len(result.segments) > 2
    assert "".join("".join(c.text.split()) for c in captions) == "".join(result.text.split())
    assert captions[-1].end_in_seconds > 60
    assert max(len(line) for caption in captions for line in caption.lines) <= 42


def test_words_have_times(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(transcribe, "mono.wav", "--lang", "en", "--format", "jsonl", "--word_times") == 0
    record = json.loads(capfd.readouterr().out)
    assert "".join(word["text"] for word in record["words"]) == "".join(record["text"].split())
    assert 0 <= record["words"][0]["start_s"] < record["words"][-1]["end_s"] <= 2.0


def test_segments_may_be_shorter(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["long.wav", "--lang", "en", "--format", "jsonl", "--max_segment_s", "5"]
    assert run(transcribe, *words) == 0
    segments = json.loads(capfd.readouterr().out)["segments"]
    assert max(segment["end_s"] - segment["start_s"] for segment in segments) <= 5


def test_bad_files_are_listed(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("text.wav").write_text("no audio at all")
    Path("empty.wav").touch()
    soundfile.write("nothing.wav", np.zeros(0, np.float32), RATE_HZ)
    soundfile.write("short.wav", np.ones(RATE_HZ // 100, np.float32) / 2, RATE_HZ)
    Path("cut.wav").write_bytes(Path("mono.wav").read_bytes()[:-1000])
    names = ["text.wav", "empty.wav", "nothing.wav", "short.wav", "cut.wav", "none.wav"]
    assert run(transcribe, "mono.wav", *names, "stereo.flac", "--lang", "en") == 1
    out, err = capfd.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == ["mono.wav", "stereo.flac"]
    listed = err[err.index("6 failed:") :].splitlines()[1:]
    reasons = dict(line.strip().split(": ", 1) for line in listed)
    assert set(reasons) == set(names)
    assert "is none" in reasons["text.wav"]
    assert "empty file" in reasons["empty.wav"]
    assert "found no samples" in reasons["nothing.wav"]
    assert "0.010 s" in reasons["short.wav"]
    assert "cut off" in reasons["cut.wav"]
    assert "nothing there" in reasons["none.wav"]
    assert "Traceback" not in err


def test_requests_that_no_model_serves(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(transcribe, "mono.wav", "--lang", "xx") == 1
    assert "lang: expected one of en, fr, found 'xx'" in capfd.readouterr().err
    assert run(translate, "mono.wav", "--lang", "en") == 1
    assert "not trained to translate from 'en'" in capfd.readouterr().err
    with zipfile.ZipFile("broken.zip", "w") as archive:
        archive.writestr("other", "text")
    data = Path("broken.zip").read_bytes()
    for content in (data, data[:-10]):
        Path("broken.zip").write_bytes(content)
        assert transcribe.main(["--model", "broken.zip", "mono.wav"]) == 1
        assert capfd.readouterr().err.startswith("error: ")


def test_a_device_that_is_not_there(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    number = torch.cuda.device_count()
    (here / "other.yaml").write_text("beam_size: 3\n")
    words = ["mono.wav", "--config", "other.yaml", "--device", f"cuda:{number}"]
    assert run(transcribe, *words) == 1
    err = capfd.readouterr().err
    assert f"cuda:{number}" in err
    assert "Traceback" not in err
