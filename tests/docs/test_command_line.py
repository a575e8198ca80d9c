# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/command_line.md are ones that the parsers take."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from espnet_objsoup.transcription import arguments

PAGE = Path(__file__).parents[2] / "docs" / "command_line.md"


def commands() -> list[list[str]]:
    """Words of every `objsoup` command of the page, in blocks and between backquotes."""
    found = []
    text = PAGE.read_text(encoding="utf-8").replace("\\|", "|")
    for command in re.findall(r"\bobjsoup ((?:transcribe|translate|demo) [^`\n]*)", text):
        words = shlex.split(command, comments=True)
        if "--model" in words:
            found.append(words)
    return found


def test_the_page_has_commands_of_every_kind() -> None:
    assert {words[0] for words in commands()} == {"transcribe", "translate", "demo"}
    assert len(commands()) >= 8


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_are_understood(words: list[str]) -> None:
    command = import_module(f"espnet_objsoup.bin.{words[0]}")
    args = command.get_parser().parse_intermixed_args(words[1:])
    assert args.model == "exp/T"
    if words[0] != "demo":
        form = arguments.check(args)
        if args.output and not args.output.endswith("/"):
            assert Path(args.output).suffix == form.suffix


def test_options_that_the_page_names_exist() -> None:
    text = PAGE.read_text(encoding="utf-8").replace("--no-install-recommends", "")  # of apt-get
    known = set()
    for command in ("transcribe", "translate", "demo"):
        parser = import_module(f"espnet_objsoup.bin.{command}").get_parser()
        known |= set(parser._option_string_actions)
    assert set(re.findall(r"(?<![-\w])--[a-z_]+\b", text)) <= known
