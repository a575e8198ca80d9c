# SPDX-License-Identifier: Apache-2.0
"""What options say is data: no shell reads it a second time. All stages, with stubs."""

import subprocess
from pathlib import Path

import pytest

from .stub import Recipe

# Words that make a file named `run` if any shell reads them again.
HOSTILE = [
    "a$(touch${IFS}run)",
    "a`touch${IFS}run`",
    "a;touch${IFS}run;",
    "a'\"$(touch${IFS}run)\"'",
    "a|touch${IFS}run",
    "a&touch${IFS}run&",
    "a\\$(touch${IFS}run)",
    "*[?]{a,b}~",
]
NAMES = ("--tag", "--train_set", "--valid_set", "--test_sets", "--datadir", "--dumpdir", "--expdir")


def ran(recipe: Recipe) -> list[Path]:
    return [*recipe.path.rglob("run"), *recipe.work.rglob("run")]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    made = Recipe.make(tmp_path)
    # The data of a hostile name.
    script = (made.path / "local" / "data.sh").read_text()
    assert "mkdir -p data/${name}" in script
    made.write_script(made.path / "local" / "data.sh", _DATA)
    return made


_DATA = """#!/usr/bin/env bash
set -euo pipefail
printf '%q ' data "$@" >>"${STUB_WORK}/calls"
echo >>"${STUB_WORK}/calls"
while [ "$1" != --datadir ]; do shift; done
for name in train dev test "${HOSTILE}"; do
    mkdir -p "$2/${name}"
    echo "u path" >"$2/${name}/wav.scp"
done
"""


@pytest.mark.parametrize("word", HOSTILE)
def test_names_are_never_commands(recipe: Recipe, word: str) -> None:
    """Each name is hostile in turn, and all at once; what is left to be run again, too."""
    arguments = [part for name in NAMES for part in (name, word)]
    arguments += ["--train_args", f"--note {word}", "--inference_args", f"--note {word}"]
    arguments += ["--local_data_opts", f"--note {word}", "--langs", word]
    finished = recipe.run(*arguments, HOSTILE=word)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert ran(recipe) == []
    calls = recipe.noted()
    for command, noted in (("train", "--note"), ("decode", "--note"), ("data", "--note")):
        call = next(c for c in calls if c[0] == command or c[1].endswith(f".{command}"))
        assert call[call.index(noted) + 1] == word
    train = next(call for call in calls if call[1].endswith(".train"))
    assert train[train.index("--output_dir") + 1] == f"{word}/{word}"
    (script,) = (path for path in recipe.path.rglob("run.sh") if path.parent.name == word)
    again = subprocess.run(
        [str(script), "--force", "true"], env=recipe.environment(HOSTILE=word), check=False,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    assert ran(recipe) == []


@pytest.mark.parametrize("option", ["--stage", "--nj", "--fs", "--channel", "--nbest", "--nbpe"])
def test_numbers_are_not_computed(recipe: Recipe, option: str) -> None:
    """Bash runs commands in what it takes for arithmetic."""
    for word in ("a[$(touch run)]", "1+a[$(touch run)]", "1\n$(touch run)"):
        finished = recipe.run(option, word)
        assert finished.returncode == 2
        assert f"error: {option}: expected" in finished.stderr
    assert ran(recipe) == []


def test_words_are_no_patterns(recipe: Recipe) -> None:
    """Files beside the recipe do not become options."""
    (recipe.path / "conf" / "x.yaml").touch()
    call = next(
        call
        for call in recipe.calls("--train_args", "--a conf/*.yaml [ct]onf", HOSTILE="x")
        if call[1].endswith(".train")
    )
    assert call[call.index("--a") + 1 : call.index("--a") + 3] == ["conf/*.yaml", "[ct]onf"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tag", "a$(touch${IFS}run)"),
        ("--expdir", "e'x"),
        ("--init_param", "conf/train.yaml:a;touch run"),
        ("--train_args", "--a `touch run`"),
        ("--train_args", "--levels [{objectives:['*']}]"),
    ],
)
def test_words_that_ssh_would_read_are_refused(recipe: Recipe, arguments: tuple[str, str]) -> None:
    recipe.write_script(recipe.work / "ssh", "#!/bin/sh\nexit 7\n")
    path = f"{recipe.work}:/usr/bin:/bin"
    finished = recipe.run(
        "--stage", "11", "--stop_stage", "11", "--host", "n1:0", *arguments,
        PATH=path, STUB_GPUS="1",
    )  # fmt: skip
    assert finished.returncode == 2, finished.stderr
    assert "--host: expected words and paths of letters, digits" in finished.stderr
    assert ran(recipe) == []


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "n1,-v", "-v:0"])
def test_machine_is_no_option_of_ssh(recipe: Recipe, host: str) -> None:
    finished = recipe.run("--host", host, STUB_GPUS="1")
    assert finished.returncode == 2
    assert "--host: expected machines and GPUs" in finished.stderr
