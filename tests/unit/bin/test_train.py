# SPDX-License-Identifier: Apache-2.0
import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from espnet_objsoup.bin import espnet_task, train
from espnet_objsoup.bin.train import expand

from ..hostile_pickle import MakesDirectory


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "u.wav", np.zeros(1600), 16000)
    for split in ("train", "dev"):
        (tmp_path / split).mkdir()
        for name in ("text", "utt2lang"):
            (tmp_path / split / name).touch()
        (tmp_path / split / "wav.scp").write_text(f"u {tmp_path}/u.wav\n")
        (tmp_path / split / "utt2num_samples").write_text("u 1600\n")
    for split in ("train", "valid"):
        (tmp_path / "stats" / split).mkdir(parents=True)
        (tmp_path / "stats" / split / "speech_shape").write_text("u 1600\n")
    (tmp_path / "stats" / "train" / "feats_stats.npz").touch()
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "tokens.txt").touch()
    return tmp_path


def data(recipe: Path) -> list[str]:
    return ["--train_dir", f"{recipe}/train", "--valid_dir", f"{recipe}/dev"]


def test_directories_become_espnets_options(recipe: Path) -> None:
    command = expand(
        [*data(recipe), "--stats_dir", f"{recipe}/stats", "--token_dir", f"{recipe}/tokens",
         "--max_epoch", "3"]
    )  # fmt: skip
    pairs = list(zip(command[::2], command[1::2], strict=True))
    assert ("--train_data_path_and_name_and_type", f"{recipe}/train/wav.scp,speech,sound") in pairs
    assert ("--train_data_path_and_name_and_type", f"{recipe}/train/text,text,text") in pairs
    assert ("--valid_data_path_and_name_and_type", f"{recipe}/dev/utt2lang,lang,text") in pairs
    assert not any("st_text" in value for _, value in pairs)
    assert ("--train_shape_file", f"{recipe}/stats/train/speech_shape") in pairs
    assert ("--token_type", "char") in pairs
    assert pairs[-1] == ("--max_epoch", "3")
    assert not any("stats_file" in value for _, value in pairs)


def test_archives_have_a_type_of_their_own(recipe: Path) -> None:
    (recipe / "train" / "wav.scp").write_text(f"u {recipe}/a.ark:7\n")
    command = expand(["--train_dir", f"{recipe}/train", "--input_size", "80"])
    assert f"{recipe}/train/wav.scp,speech,kaldi_ark" in command


def test_bpe_model_and_global_statistics_are_used_where_they_belong(recipe: Path) -> None:
    (recipe / "tokens" / "bpe.model").touch()
    (recipe / "c.yaml").write_text("normalize: global_mvn\n")
    shared = ["--stats_dir", f"{recipe}/stats", "--token_dir", f"{recipe}/tokens"]
    command = expand([*shared, "--config", f"{recipe}/c.yaml"])
    assert f"stats_file={recipe}/stats/train/feats_stats.npz" in command
    assert f"{recipe}/tokens/bpe.model" in command
    command = expand([*shared, "--config", f"{recipe}/c.yaml", "--normalize", "utterance_mvn"])
    assert not any("stats_file" in word for word in command)


def test_missing_results_of_earlier_stages_are_named(recipe: Path) -> None:
    with pytest.raises(FileNotFoundError, match="stage 5"):
        expand(["--token_dir", f"{recipe}/nothing"])
    (recipe / "train" / "wav.scp").unlink()
    with pytest.raises(FileNotFoundError, match="data directory of stage 4"):
        expand(["--train_dir", f"{recipe}/train"])


@pytest.mark.parametrize(
    ("conf", "arguments"),
    [
        ("frontend_conf: {fs: 8k}\n", []),
        ("frontend_conf: {fs: 8000}\n", []),
        ("encoder: conformer\n", ["--frontend_conf", "fs=8k"]),
    ],
)
def test_a_front_end_of_another_rate_is_found(
    recipe: Path, conf: str, arguments: list[str]
) -> None:
    (recipe / "c.yaml").write_text(conf)
    message = r"expected 8000 Hz .*c.yaml says, found 16000 Hz in u; run stage 3"
    with pytest.raises(ValueError, match=message):
        expand([*data(recipe), "--config", f"{recipe}/c.yaml", *arguments])
    expand([*data(recipe), "--config", f"{recipe}/c.yaml", "--input_size", "80"])


@pytest.mark.parametrize("shapes", ["u 800\n", "v 1600\n", "u 1600\nv 1600\n"])
def test_statistics_of_other_data_are_found(recipe: Path, shapes: str) -> None:
    (recipe / "stats" / "valid" / "speech_shape").write_text(shapes)
    with pytest.raises(ValueError, match="run stage 10 again"):
        expand([*data(recipe), "--stats_dir", f"{recipe}/stats"])


def test_a_syntax_error_names_file_and_line(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (recipe / "c.yaml").write_text("encoder: conformer\nencoder_conf: {a: 1\nmax_epoch: 3\n")
    assert train.main([*data(recipe), "--config", f"{recipe}/c.yaml"]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: {recipe}/c.yaml:")
    assert "expected YAML" in message
    assert len(message.splitlines()) == 1


def raised(code: str, filename: Path) -> Exception:
    filename.write_text(code)
    try:
        exec(compile(code, str(filename), "exec"), {})  # noqa: S102, an error of a chosen file
    except Exception as err:
        return err
    raise AssertionError("no error")


def test_only_checks_are_the_users_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(espnet_task, "CHECKS", (str(package),))
    check = "raise ValueError('expected a, found b')\n"
    assert espnet_task.is_users(raised(check, package / "check.py"))
    assert not espnet_task.is_users(raised(check, tmp_path / "library.py"))
    assert not espnet_task.is_users(raised("int('x')\n", package / "defect.py"))
    assert not espnet_task.is_users(raised("{}['x']\n", package / "defect.py"))
    assert espnet_task.is_users(raised("open('/no/where')\n", package / "missing.py"))
    missing = "raise NotImplementedError('expected a, found b; use c')\n"
    assert espnet_task.is_users(raised(missing, package / "refusal.py"))
    assert not espnet_task.is_users(raised(missing, tmp_path / "library.py"))
    assert not espnet_task.is_users(raised("raise NotImplementedError\n", package / "abstract.py"))
    path = "import pathlib; pathlib.Path('/no/where').read_text()\n"
    assert espnet_task.is_users(raised(path, package / "missing_path.py"))


RUNS = """
import sys
from espnet_objsoup.bin.train import main
common = sys.argv[1:]
for words in (
    ["--encoder", "nonesuch"],
    ["--trainer", "nonesuch"],
    ["--config", "ENCODER"],
    ["--config", "TRAINER"],
    ["--config", "KEY"],
    ["--config", "TRAINER_KEY"],
    ["--encoder", "conformer", "--encoder_conf", "nosuch=1"],
    ["--config", "CTC_KEY"],
    ["--ngpu", "1"],
    ["--help"],
):
    print("====", " ".join(words), file=sys.stderr, flush=True)
    words = [f"{sys.argv[1]}/{w}.yaml" if w.isupper() else w for w in words]
    try:
        status = main([*sys.argv[2:], *words])
    except SystemExit as end:
        status = end.code
    print("status", status, file=sys.stderr, flush=True)
"""


def test_names_and_keys_that_do_not_exist(recipe: Path) -> None:
    for name, text in {
        "CTC_KEY": "ctc_conf: {nosuch: 1}\n",
        "ENCODER": "encoder: nonesuch\n",
        "TRAINER": "trainer: nonesuch\n",
        "KEY": "encodre: conformer\n",
        "TRAINER_KEY": "trainer: objsoup\ntrainer_conf: {recipee: static}\n",
    }.items():
        (recipe / f"{name}.yaml").write_text(text)
    tokens = ["<blank>", "<unk>", "<en>", "a", "<sos/eos>"]
    (recipe / "tokens" / "tokens.txt").write_text("\n".join(tokens) + "\n")
    for split in ("train", "dev"):
        (recipe / split / "text").write_text("u a\n")
        (recipe / split / "utt2lang").write_text("u en\n")
    arguments = [*data(recipe), "--token_dir", f"{recipe}/tokens", "--output_dir", f"{recipe}/exp"]
    finished = subprocess.run(
        [sys.executable, "-c", RUNS, str(recipe), *arguments, "--collect_stats", "true",
         "--train_shape_file", f"{recipe}/stats/train/speech_shape",
         "--valid_shape_file", f"{recipe}/stats/valid/speech_shape"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    parts = finished.stderr.split("====")[1:]
    assert len(parts) == 10, finished.stderr[-3000:]
    expected = (
        (2, "--encoder: invalid choice: 'nonesuch'"),
        (2, "--trainer: invalid choice: 'nonesuch'"),
        (1, "error: --encoder must be one of"),
        (1, "error: trainer: expected "),
        (2, "encodre"),
        (1, "recipee"),
        (
            1,
            "error: encoder_conf: unknown key nosuch for encoder: conformer; known keys: ",
        ),
        (1, "error: ctc_conf: unknown key nosuch for ctc: ctc; known keys: dropout_rate"),
        (1, "error: ngpu: expected a GPU that PyTorch can use, found none for --ngpu 1; use"),
    )
    for name in ("train_dir", "valid_dir", "stats_dir", "token_dir"):
        assert f"  --{name} " in finished.stdout
    assert "status 0\n" in parts.pop()
    for part, (status, message) in zip(parts, expected, strict=True):
        assert message in part
        assert f"status {status}\n" in part
        assert "Traceback" not in part
        assert sum("error" in line for line in part.splitlines()) == 1, part


class Choice:
    name = "encoder"

    @staticmethod
    def get_class(name: str) -> type:
        return {"good": Good, "heir": Heir}[name]


class Good:
    def __init__(self, size: int, width: int = 1) -> None:
        if width == 2:
            Good(1, depth=1)  # a defect of the class itself


class Heir(Good):
    pass


class Task:
    class_choices_list = (Choice,)


@pytest.mark.parametrize(
    ("name", "conf", "users"),
    [
        ("good", {"nosuch": 1}, True),
        ("heir", {"nosuch": 1}, True),
        ("good", {"width": 2}, False),
        ("good", {"size": 1}, False),
    ],
)
def test_only_keys_of_the_configuration_are_unknown(name: str, conf: dict, users: bool) -> None:
    args = argparse.Namespace(encoder=name, encoder_conf=conf, optim="adam", optim_conf={})
    with pytest.raises(TypeError) as error:
        Choice.get_class(name)(1, **conf)
    message = espnet_task.unknown_key(error.value, Task, args)
    expected = f"encoder_conf: unknown key nosuch for encoder: {name}; known keys: width"
    assert message == (expected if users else None)


@pytest.mark.parametrize(("kind", "name"), [("optim", "adam"), ("scheduler", "warmuplr")])
def test_unknown_keys_of_optimisers(kind: str, name: str) -> None:
    from espnet2.tasks.abs_task import optim_classes, scheduler_classes

    args = argparse.Namespace(**{kind: name, f"{kind}_conf": {"nosuch": 1}})
    parameter = torch.nn.Parameter(torch.zeros(1))
    first = [parameter] if kind == "optim" else torch.optim.SGD([parameter], 0.1)
    with pytest.raises(TypeError) as error:
        {**optim_classes, **scheduler_classes}[name](first, nosuch=1)
    message = espnet_task.unknown_key(error.value, Task, args)
    assert message is not None
    assert message.startswith(f"{kind}_conf: unknown key nosuch for {kind}: {name}; known keys: ")


def test_weights_that_would_run_a_program_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """As --init_param reads them; other errors of that type keep their traceback."""
    from espnet2.torch_utils.load_pretrained_model import load_pretrained_model

    torch.save({"a": MakesDirectory(tmp_path / "made")}, tmp_path / "model.pth")

    class Task:
        @staticmethod
        def get_parser() -> argparse.ArgumentParser:
            parser = argparse.ArgumentParser()
            parser.set_defaults(ngpu=0)
            return parser

        @staticmethod
        def main(args: argparse.Namespace) -> None:
            load_pretrained_model(f"{tmp_path}/model.pth", torch.nn.Linear(1, 1), False)

    assert espnet_task.run_task("train", lambda: Task, list) == 1
    assert capsys.readouterr().err.startswith("error: torch.load with weights_only=True failed")
    assert not (tmp_path / "made").exists()

    def fails(args: argparse.Namespace) -> None:
        raise RuntimeError("a defect")

    Task.main = staticmethod(fails)
    with pytest.raises(RuntimeError, match="a defect"):
        espnet_task.run_task("train", lambda: Task, list)
