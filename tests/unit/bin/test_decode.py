# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from espnet_objsoup.bin import decode
from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio import AudioFormat, format_audio

from ..data.factory import make_data, write_tone
from ..experiment import make_experiment


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("decode")
    make_experiment(root / "exp")
    data = format_audio(make_data(write_tone(root / "x.wav", 0.6)), root / "d", AudioFormat(), 1)
    datadir.write(data, root / "d")
    (root / "decode.yaml").write_text("beam_size: 2\nmaxlenratio: 0.3\nctc_greedy: true\n")
    return root


def arguments(work: Path, name: str, *more: str) -> list[str]:
    return [
        "--train_config", f"{work}/exp/config.yaml", "--model_file", f"{work}/exp/model.pth",
        "--data_dir", f"{work}/d", "--output_dir", f"{work}/{name}",
        "--config", f"{work}/decode.yaml", *more,
    ]  # fmt: skip


def tree(directory: Path) -> dict[str, str]:
    return {
        str(p.relative_to(directory)): p.read_text() for p in directory.rglob("*") if p.is_file()
    }


def test_every_task_and_file(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert decode.main(arguments(work, "one", "--batch_size", "2")) == 0
    files = tree(work / "one")
    assert set(files) == {
        f"{task}/{name}" for task in ("asr", "st", "asr_ctc") for name in decode.FILES
    }
    keys = [line.split(" ")[0] for line in files["asr/text"].splitlines()]
    assert keys == ["en-c-u3", "fr-a-u1", "fr-b-u2"]
    assert len(files["st/text"].splitlines()) == 2
    assert "real-time factor" in capsys.readouterr().out


def test_failed_run_leaves_the_earlier_result(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert decode.main(arguments(work, "two")) == 0
    before = tree(work / "two")
    (work / "bad.yaml").write_text("beem_size: 3\n")
    bad = [*arguments(work, "two"), "--config", f"{work}/bad.yaml"]
    assert decode.main(bad) == 1
    assert "unknown key beem_size" in capsys.readouterr().err
    assert tree(work / "two") == before


def test_audio_of_another_rate_is_refused(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_data(write_tone(tmp_path / "x.wav", 0.6))
    data = format_audio(source, tmp_path / "d", AudioFormat(8000), 1)
    datadir.write(data, tmp_path / "d")
    wrong = [*arguments(work, "three"), "--data_dir", f"{tmp_path}/d"]
    assert decode.main(wrong) == 1
    assert "expected 16000 Hz as in training, found 8000" in capsys.readouterr().err


def test_batches_hold_every_utterance_once_by_length() -> None:
    data = make_data()
    data.columns["utt2num_samples"] = {"en-c-u3": "30", "fr-a-u1": "10", "fr-b-u2": "20"}
    found = list(decode.batches(data, data.utterances, 2))
    assert found == [["en-c-u3", "fr-b-u2"], ["fr-a-u1"]]
