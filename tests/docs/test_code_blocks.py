# SPDX-License-Identifier: Apache-2.0
"""Code in the documentation runs; commands have the options and files that it gives them."""

import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import yaml

from ..unit.experiment import make_experiment
from .code_blocks import ROOT, Block, Command, blocks, commands

TAG = "exp/<tag>"
TORCHRUN = {"nproc_per_node", "nnodes", "rdzv_backend", "rdzv_endpoint"}
# What needs a hub, or a table on the web, is tested with a hub of the tests' own (tests/unit/zoo).
REMOTE = re.compile(r"user/name\b|ModelDownloader\(\)\.download_and_unpack\(task=")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the pages' examples name: an experiment, its zip, audio."""
    from espnet_objsoup.bin import pack

    directory = tmp_path_factory.mktemp("docs")
    experiment = make_experiment(directory / "exp" / "tag")
    shutil.copy(experiment / "model.pth", experiment / "valid.loss.ave.pth")
    zipped = ["--exp_dir", str(experiment), "--license", "cc-by-4.0"]
    assert pack.main([*zipped, "--out", str(directory / "exp" / "tag.zip")]) == 0
    draw = np.random.default_rng(0)
    for name in ("clip.flac", "talk.flac", "talks/a.flac", "talks/more/b.flac"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(directory / name, 0.3 * draw.standard_normal(9000), 16000)
    return directory


def is_remote(block: Block) -> bool:
    """Whether a block's first statement is one that needs the hub."""
    return bool(REMOTE.search(re.sub(r"#.*", "", block.text)))


LOCAL = [block for block in blocks("python") if not is_remote(block)]


@pytest.mark.parametrize("page", sorted({b.page for b in LOCAL}), ids=lambda p: p.name)
def test_python_runs(
    page: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Blocks of a page one after the other, as a reader would type them."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place))
    names: dict[str, object] = {"ModelDownloader": _downloader(place)}
    with ExitStack() as stack:
        for table in _tables():  # what a page registers is gone after it
            stack.enter_context(mock.patch.dict(table))
        for block in LOCAL:
            if block.page == page:
                text = block.text.replace(TAG, "exp/tag")
                text = text.replace("from espnet_model_zoo.downloader import ModelDownloader", "")
                exec(compile(text, str(block), "exec"), names)  # noqa: S102
    if page.name == "README.md":
        assert len(capsys.readouterr().out.splitlines()) == 2
        (result,) = names["speech2text"]("clip.flac", task="st", lang="fr", target_lang="en")
        assert result.text
    if page.name == "extending.md":
        assert capsys.readouterr().out.splitlines() == [
            "('asr/en',) None",
            "('ssl',) linear",
            "('st/fr-en',) linear",
            "tensor([0.5000, 1.0000], dtype=torch.float64)",
        ]


def _tables() -> list[dict]:
    from espnet_objsoup.gradients import rules
    from espnet_objsoup.objectives.recipes import RECIPES
    from espnet_objsoup.objectives.weighting_table import WEIGHTINGS
    from espnet_objsoup.weighting.registry import BUILDERS

    return [rules._RULES, RECIPES, WEIGHTINGS, BUILDERS]


def _downloader(place: Path) -> object:
    """ESPnet's, which would else write into its own package."""
    from espnet_model_zoo.downloader import ModelDownloader

    return lambda: ModelDownloader(place / "zoo")


@pytest.mark.parametrize("block", [b for b in blocks("python") if is_remote(b)], ids=str)
def test_python_that_needs_a_hub_is_python(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_a_configuration(block: Block) -> None:
    conf = yaml.safe_load(block.text)
    assert set(conf) <= options_of("train"), set(conf) - options_of("train")
    if "trainer_conf" in conf:
        from espnet_objsoup.objectives import check_trainer_conf

        check_trainer_conf("objsoup", conf["trainer_conf"])
    if "sampler_conf" in conf:
        from espnet_objsoup.train.sampler import SamplerOptions

        SamplerOptions.from_dict(conf["sampler_conf"])


@cache
def options_of(name: str) -> frozenset[str]:
    """Options of a module of `espnet_objsoup.bin`, without dashes."""
    module = import_module(f"espnet_objsoup.bin.{name}")
    parsers = [module.get_parser()]
    if name == "train":
        from espnet_objsoup.tasks.objsoup import ObjSoupTask

        parsers.append(ObjSoupTask.get_parser())
    return frozenset(
        option.removeprefix("--") for p in parsers for option in p._option_string_actions
    )


@cache
def options_of_script(*words: str) -> frozenset[str]:
    """Options that a script's own --help names."""
    text = subprocess.run([*words, "--help"], capture_output=True, text=True, check=True).stdout
    return frozenset(re.findall(r"--(\w+)", text))


def recipe_of(command: Command) -> Path:
    """The recipe whose run.sh a command calls."""
    page, script = command.block.page, ROOT / command.words[0]
    if script.is_file():
        return script.resolve().parent
    return page.parent if page.parent.parent.name == "egs2" else ROOT / "egs2" / "mini_objsoup"


def known_options(command: Command) -> frozenset[str] | None:
    """Options of a command's program; None if it is not ours."""
    words = command.words
    if words[0].endswith("run.sh"):
        if command.block.page.name == "stock_tasks.md":
            return None  # ESPnet's own recipes
        return options_of_script(str(recipe_of(command) / "run.sh"))
    if words[0].endswith("compare.sh"):
        return options_of_script(str(recipe_of(command) / "compare.sh"))
    if words[0] in ("tools/install.sh", "tools/test.sh"):
        return options_of_script(str(ROOT / words[0]))
    if words[0] == "objsoup":
        return options_of(words[1])
    for word in words:
        found = re.fullmatch(r"espnet_objsoup\.bin\.(\w+)", word)
        if found:
            return options_of(found[1]) | (TORCHRUN if words[0] == "torchrun" else set())
        found = re.search(r"\b(tools/.*\.py)$", word)
        if found:
            return options_of_script(sys.executable, str(ROOT / found[1]))
    return None


OURS = re.compile(r"(run|compare)\.sh$|^tools/|^objsoup$|^python$|^torchrun$")


@pytest.mark.parametrize("command", [c for c in commands() if OURS.search(c.words[0])], ids=str)
def test_command(command: Command) -> None:
    known = known_options(command)
    if known is None:
        assert command.block.page.name == "stock_tasks.md"
        return
    unknown = [option for option in command.options if option.removeprefix("--") not in known]
    assert not [option for option in unknown if option != "--help"]
    config = command.value("--config") or command.value("--cluster")
    if config and "my.yaml" not in config:
        places = [recipe_of(command), *(ROOT / "egs2").glob("*_objsoup")]
        if "--cluster" in command.words:
            places.append(ROOT / "egs2" / "TEMPLATE" / "objsoup1")
        assert any((place / config).exists() for place in places), config


def test_commands_of_every_kind_are_found() -> None:
    programs = {c.words[0] for c in commands() if OURS.search(c.words[0])}
    assert {"./run.sh", "objsoup", "python", "torchrun", "tools/test.sh"} <= programs
    assert len(blocks("python")) >= 5
    assert len(blocks("yaml")) >= 8


def test_readme_s_commands_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Those of the section on using a model that need no hub."""
    from espnet_objsoup.bin import objsoup

    monkeypatch.chdir(place)
    section = [
        c for c in commands() if c.block.page.name == "README.md" and TAG in " ".join(c.words)
    ]
    ran = []
    for command in section:
        words = [w.replace(TAG, "exp/tag").replace("talk.mp3", "talk.flac") for w in command.words]
        if words[1] in ("transcribe", "info"):
            assert objsoup.main(words[1:]) == 0, capsys.readouterr().err
            ran.append(words[1])
    assert ran == ["transcribe", "info"]
    assert "-->" in (place / "talk.srt").read_text(encoding="utf-8")
    assert "asr/fr" in capsys.readouterr().out
