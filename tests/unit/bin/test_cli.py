# SPDX-License-Identifier: Apache-2.0
"""What commands share: their names in messages, errors on a terminal."""

import subprocess
import sys
from pathlib import Path

import pytest

from espnet_objsoup.bin import cli


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("/usr/bin/objsoup", "objsoup info"),
        ("/x/espnet_objsoup/bin/objsoup.py", "objsoup info"),
        ("/x/espnet_objsoup/bin/info.py", "python -m espnet_objsoup.bin.info"),
    ],
)
def test_a_command_calls_itself_as_it_was_called(
    monkeypatch: pytest.MonkeyPatch, called: str, name: str
) -> None:
    monkeypatch.setattr(sys, "argv", [called, "info"])
    assert cli.make_parser("info", "x").prog == name


def test_the_help_of_objsoup_info() -> None:
    command = [sys.executable, "-m", "espnet_objsoup.bin.objsoup", "info", "--help"]
    root = Path(__file__).parents[3]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout
    assert shown.startswith("usage: objsoup info ")


def test_errors_do_not_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    cli.print_error(ValueError("a\x1b[2J\x9b\x07\r\tb\nç\u200c\u202e\udcff"))
    shown = capsys.readouterr().err
    assert shown == "error: a\\x1b[2J\\x9b\\x07\\r\\tb\nç\u200c\\u202e\\udcff\n"
