# SPDX-License-Identifier: Apache-2.0
import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from espnet_objsoup import __version__
from espnet_objsoup.bin import objsoup


def test_version_is_immediate_and_needs_no_torch() -> None:
    code = (
        "import sys; from espnet_objsoup.bin.objsoup import main; status = main(['--version'])\n"
        "assert not {'torch', 'espnet2', 'numpy', 'yaml'} & set(sys.modules); sys.exit(status)"
    )
    seconds = []
    for _ in range(3):  # the first may read from disk
        # Time of the processor: the tests may share it with other work.
        begin = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        finished = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        seconds.append(sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - begin)
    assert finished.stdout == f"objsoup {__version__}\n"
    assert min(seconds) < 0.5


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert objsoup.main(["--help"]) == 0
    text = capsys.readouterr().out
    for path in Path(objsoup.__file__).parent.glob("*.py"):
        if "\ndef main(" in path.read_text() and path.stem != "objsoup":
            assert f"\n  {path.stem} " in text
    for name, meaning in objsoup.commands().items():
        assert meaning.endswith("."), name
        assert "\ndef main(" in (Path(objsoup.__file__).parent / f"{name}.py").read_text()


def test_a_command_is_its_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["validate-data-dir", str(tmp_path / "none")]
    status = objsoup.main(words)
    through = capsys.readouterr().err
    module = import_module("espnet_objsoup.bin.validate_data_dir")
    assert module.main(words[1:]) == status == 1
    assert capsys.readouterr().err == through != ""


@pytest.mark.parametrize(
    ("words", "message"),
    [(["trian"], "did you mean train?"), (["x"], "see objsoup --help"), ([], "Usage:")],
)
def test_usage_errors(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert objsoup.main(words) == 2
    assert message in capsys.readouterr().err
