# SPDX-License-Identifier: Apache-2.0
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_objsoup.bin import decode
from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio import AudioFormat, format_audio
from espnet_objsoup.decoding.output import FILES
from espnet_objsoup.inference import Speech2Text

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
        str(p.relative_to(directory)): p.read_text()
        for p in directory.rglob("*")
        if p.is_file() and "logs" not in p.parts
    }


def hypotheses(directory: Path) -> dict[str, str]:
    return {name: text for name, text in tree(directory).items() if name != "decode.json"}


def keys(table: str) -> list[str]:
    return [line.split(" ")[0] for line in table.splitlines()]


def test_every_task_and_file(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert decode.main(arguments(work, "one", "--batch_size", "2")) == 0
    files = tree(work / "one")
    assert set(files) == {"decode.json"} | {
        f"{task}/{name}" for task in ("asr", "st", "asr_ctc") for name in FILES
    }
    assert keys(files["asr/text"]) == ["en-c-u3", "fr-a-u1", "fr-b-u2"]
    assert len(files["st/text"].splitlines()) == 2
    assert "real-time factor" in capsys.readouterr().out


def test_report_states_speed_and_options(work: Path) -> None:
    assert decode.main(arguments(work, "report", "--batch_size", "2")) == 0
    report = json.loads((work / "report" / "decode.json").read_text())
    assert report["audio_seconds"] == pytest.approx(3 * 0.6)
    assert report["utterances"] == 3
    assert report["rtf"] == pytest.approx(report["decode_seconds"] / 1.8, abs=1e-3)
    assert report["utterances_per_second"] == pytest.approx(3 / report["wall_seconds"], rel=0.05)
    expected = {"nj": 1, "device": "cpu", "dtype": "float32", "batch_size": 2, "beam_size": 2}
    assert expected.items() <= report.items()
    log = (work / "report" / "logs" / "objsoup_inference.1.log").read_text()
    assert "fr-a-u1 st:" in log
    assert "real-time factor" in log


def test_nbest_has_espnets_directories(work: Path) -> None:
    assert decode.main(arguments(work, "nbest", "--nbest", "2")) == 0
    files = hypotheses(work / "nbest")
    for task in ("asr", "st"):
        for name in FILES:
            assert files[f"{task}/1best_recog/{name}"] == files[f"{task}/{name}"]
        first, second = (
            dict(line.split(" ") for line in files[f"{task}/{n}best_recog/score"].splitlines())
            for n in (1, 2)
        )
        assert second
        assert all(float(second[key]) <= float(first[key]) for key in second)
    assert not [name for name in files if name.startswith("asr_ctc/2")]
    # The next run asks for fewer: nothing of this one is left.
    assert decode.main(arguments(work, "nbest")) == 0
    assert not [name for name in hypotheses(work / "nbest") if "best_recog" in name]


def test_command_line_wins_over_nbest_of_the_yaml(work: Path) -> None:
    (work / "nbest.yaml").write_text("beam_size: 2\nmaxlenratio: 0.3\nnbest: 2\n")
    given = [*arguments(work, "wins"), "--config", f"{work}/nbest.yaml"]
    assert decode.main(given) == 0
    assert (work / "wins" / "asr" / "2best_recog").is_dir()
    assert decode.main([*given, "--nbest", "1"]) == 0
    assert not (work / "wins" / "asr" / "2best_recog").exists()


def test_jobs_write_what_one_process_writes(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert decode.main(arguments(work, "alone", "--batch_size", "1")) == 0
    assert decode.main(arguments(work, "jobs", "--batch_size", "1", "--nj", "2")) == 0
    assert hypotheses(work / "jobs") == hypotheses(work / "alone")
    logs = sorted(p.name for p in (work / "jobs" / "logs").iterdir())
    assert logs == ["objsoup_inference.1.log", "objsoup_inference.2.log"]
    report = json.loads((work / "jobs" / "decode.json").read_text())
    assert report["nj"] == 2
    assert report["audio_seconds"] == pytest.approx(1.8)
    assert report["wall_seconds"] < report["decode_seconds"]
    assert capfd.readouterr().err.count("\n") == 2  # one bar for each run
    assert not (work / "jobs" / ".jobs").exists()


def test_too_short_audio_has_an_empty_hypothesis(work: Path, tmp_path: Path) -> None:
    make_experiment(tmp_path / "exp", encoder_conf={"input_layer": "conv2d"})
    source = make_data(write_tone(tmp_path / "x.wav", 0.05))
    datadir.write(format_audio(source, tmp_path / "d", AudioFormat(), 1), tmp_path / "d")
    (tmp_path / "decode.yaml").write_text("beam_size: 2\nctc_greedy: true\n")
    assert decode.main(arguments(tmp_path, "short", "--nbest", "2")) == 0
    assert (tmp_path / "short" / "st" / "text").read_text() == "fr-a-u1 \nfr-b-u2 \n"
    assert len((tmp_path / "short" / "asr_ctc" / "text").read_text().splitlines()) == 3


def write_samples(work: Path, directory: Path, samples: dict[str, np.ndarray]) -> list[str]:
    """The data directory with other audio; returns the command's arguments."""
    data = datadir.read(work / "d")
    for key, values in samples.items():
        soundfile.write(directory / f"{key}.wav", values, 16000, subtype="PCM_16")
        data.columns["wav.scp"][key] = str(directory / f"{key}.wav")
        data.columns["utt2num_samples"][key] = str(max(1, len(values)))
    datadir.write(data, directory / "data")
    return [*arguments(work, "x"), "--data_dir", f"{directory}/data", "--output_dir",
            f"{directory}/out"]  # fmt: skip


def test_silence_a_constant_and_clipping_are_decoded(work: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    odd = {
        "en-c-u3": np.zeros(9600),
        "fr-a-u1": np.full(9600, 0.3),
        "fr-b-u2": np.sign(draw.standard_normal(9600)),
    }
    assert decode.main(write_samples(work, tmp_path, odd)) == 0
    scores = tree(tmp_path / "out")["asr/score"].splitlines()
    assert [line.split(" ")[0] for line in scores] == sorted(odd)
    assert all(math.isfinite(float(line.split(" ")[1])) for line in scores)


def test_audio_without_samples_is_named(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert decode.main(write_samples(work, tmp_path, {"fr-a-u1": np.zeros(0)})) == 1
    assert "fr-a-u1.wav: expected audio, found no samples" in capsys.readouterr().err
    assert not (tmp_path / "out" / "decode.json").exists()


def test_utterance_that_does_not_fit_into_memory_is_named(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real one takes all of this machine's memory; others are decoded in smaller batches."""
    original, sizes = Speech2Text.encode, []

    def encode(self: Speech2Text, speeches: list, *rest: object) -> object:
        sizes.append(len(speeches))
        if sizes[-1] > limit:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return original(self, speeches, *rest)

    data = datadir.read(work / "d")
    distinct = len(set(data.columns["wav.scp"].values()))
    monkeypatch.setattr(Speech2Text, "encode", encode)
    limit = distinct - 1 or 1
    assert decode.main(arguments(work, "halves")) == 0
    limit = 0
    assert decode.main(arguments(work, "none")) == 1
    message = capsys.readouterr().err
    assert re.search(r"utterance \S+ of 1 s does not fit into memory by itself; leave", message)


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


def other_objectives(work: Path, path: Path) -> list[str]:
    conf = yaml.safe_load((work / "exp" / "config.yaml").read_text())
    (path / "config.yaml").write_text(yaml.safe_dump({**conf, "objectives": ["asr/de"]}))
    return ["--train_config", f"{path}/config.yaml"]


def empty_data(work: Path, path: Path) -> list[str]:
    for name in datadir.REQUIRED:
        (path / name).write_text("")
    return ["--data_dir", str(path)]


def segmented_data(work: Path, path: Path) -> list[str]:
    data = datadir.read(work / "d")
    data.columns["segments"] = {key: f"{key} 0.0 0.5" for key in data.utterances}
    datadir.write(data, path)
    return ["--data_dir", str(path)]


def other_task(work: Path, path: Path) -> list[str]:
    (path / "config.yaml").write_text("encoder: transformer\n")
    return ["--train_config", f"{path}/config.yaml"]


def yaml_with(content: str) -> Callable[[Path, Path], list[str]]:
    def write(work: Path, path: Path) -> list[str]:
        (path / "decode.yaml").write_text(content)
        return ["--config", f"{path}/decode.yaml"]

    return write


def weights_with(content: object) -> Callable[[Path, Path], list[str]]:
    def write(work: Path, path: Path) -> list[str]:
        if isinstance(content, bytes):
            (path / "model.pth").write_bytes(content)
        else:
            torch.save(content, path / "model.pth")
        return ["--model_file", f"{path}/model.pth"]

    return write


def cut_weights(work: Path, path: Path) -> list[str]:
    content = (work / "exp" / "model.pth").read_bytes()
    return weights_with(content[: len(content) // 2])(work, path)


def other_shape(work: Path, path: Path) -> list[str]:
    state = torch.load(work / "exp" / "model.pth", weights_only=True)
    state["st_head.decoder.output_layer.bias"] = torch.zeros(5)
    return weights_with(state)(work, path)


MISTAKES = {
    "no_config": (
        lambda work, path: ["--train_config", f"{path}/config.yaml"],
        "expected config.yaml of a trained experiment, found none; train first",
    ),
    "config_of_another_task": (other_task, "found no `objectives`; a model of another ESPnet task"),
    "no_weights": (
        lambda work, path: ["--model_file", f"{path}/none.pth"],
        "none.pth: expected weights, found no file; train first",
    ),
    "cut_weights": (cut_weights, "found a damaged or foreign file"),
    "text_for_weights": (weights_with(b"hello"), "found a damaged or foreign file"),
    "empty_weights": (weights_with(b""), "found a damaged or foreign file"),
    "checkpoint": (weights_with({"model": {}, "trainer": {}}), "found keys model, trainer"),
    "other_shape": (other_shape, "1 of another shape (such as st_head.decoder.output_layer.bias"),
    "no_data": (lambda work, path: ["--data_dir", f"{path}/none"], "expected a data directory"),
    "empty_data": (empty_data, "found none"),
    "unformatted": (segmented_data, "expected formatted audio, found segments; run stage 3"),
    "other_objectives": (other_objectives, "expected utterances of asr/de, found none"),
    "unknown_key": (yaml_with("beam: 3\n"), "decode.yaml: decoding options: unknown key beam;"),
    "beam_of_none": (yaml_with("beam_size: 0\n"), "beam_size: expected a whole number >= 1, foun"),
    "text_for_beam": (yaml_with("beam_size: '5'\n"), "beam_size: expected a whole number >= 1"),
    "ctc_weight": (yaml_with("ctc_weight: 3\n"), "ctc_weight: expected a number from 0 to 1"),
    "list_for_yaml": (yaml_with("- beam_size\n"), "expected `option: value` lines, found"),
    "no_yaml": (yaml_with("a: [\n"), "decode.yaml: line 2: expected YAML"),
    "length_ratios": (
        yaml_with("maxlenratio: 0.1\nminlenratio: 0.3\n"),
        "minlenratio: expected at most maxlenratio 0.1, found 0.3",
    ),
    "nbest_above_beam": (
        lambda work, path: ["--nbest", "3"],
        "nbest: expected at most beam_size 2, found 3; raise beam_size or lower nbest",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_have_one_message(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    make, message = MISTAKES[name]
    assert decode.main([*arguments(work, f"bad_{name}"), *make(work, tmp_path)]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    assert not (work / f"bad_{name}" / "decode.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_gpu_that_is_not_there(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert decode.main(arguments(work, "gpu", "--ngpu", "1")) == 1
    assert "--ngpu 1: expected a GPU, found none" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["--nbest", "0"], ["--dtype", "int8"], ["--ngpu", "2"], ["--beam_size", "3"]]
)
def test_usage_errors(work: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        decode.main(arguments(work, "usage", *wrong))
    assert exit_.value.code == 2
    assert wrong[0] in capsys.readouterr().err
