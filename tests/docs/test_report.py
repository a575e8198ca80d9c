# SPDX-License-Identifier: Apache-2.0
"""Commands, options and configurations of docs/report.md are ones that exist."""

import re
import shlex
from pathlib import Path

import yaml

from espnet_objsoup.bin.report import get_parser
from espnet_objsoup.objectives import SoupConf
from espnet_objsoup.report.cosines import MOST_PAIRS
from espnet_objsoup.report.series import MOST_POINTS
from espnet_objsoup.report.style import MOST_LINES

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "report.md").read_text(encoding="utf-8")


def test_commands_are_understood() -> None:
    commands = re.findall(r"^objsoup report (.*)$", TEXT, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command.replace("<", "").replace(">", ""), comments=True)
        args = get_parser().parse_args(words)
        assert all(str(path).startswith("exp/tag") for path in args.experiments)


def test_options_exist() -> None:
    named = set(re.findall(r"--[a-z_]+", TEXT))
    assert named <= set(get_parser()._option_string_actions)
    assert {"--output", "--watch", "--figures"} <= named


def test_configuration_is_taken() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    conf = SoupConf.from_dict(yaml.safe_load(block)["trainer_conf"])
    assert conf.monitor
    assert conf.is_static


def test_limits_are_those_of_the_page() -> None:
    assert f"curves of more than {MOST_POINTS} points" in TEXT
    assert f"more than {MOST_LINES} objectives" in TEXT
    assert f"of more than {MOST_PAIRS} pairs" in TEXT


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (DOCS / target).is_file(), target
