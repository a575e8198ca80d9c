# SPDX-License-Identifier: Apache-2.0
"""docs/weightings.md says what the code does."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from espnet_objsoup.objectives import (
    RECIPES,
    REFUSED,
    WEIGHTINGS,
    LayersConf,
    SoupConf,
    level_coefficients,
    resolve_levels,
    soup_table,
)
from espnet_objsoup.objectives.penalties import PENALTIES
from espnet_objsoup.objectives.soup_conf import SOUP_KEYS
from espnet_objsoup.objectives.weighting_table import RUNNING, STEP
from espnet_objsoup.weighting import Soup

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "weightings.md").read_text(encoding="utf-8")
EXAMPLE = ("asr/de", "asr/fr", "st/de-en", "st/fr-en", "ssl")


def shown(value: Any) -> str:
    """As YAML writes a default."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weightings(name: str) -> None:
    info = WEIGHTINGS[name]
    options = ", ".join(
        f"`{option}: {shown(value.default)}`"
        for option, value in info.options.items()
        if option not in ("smoothing", "matrix")  # in the text, for all that take them
    )
    row = f"| `{name}` | {info.summary} | {info.source} | {info.needs} | {options or '-'} |"
    assert row in TEXT.splitlines()
    assert not info.extra or f'pip install "torchjd[{info.extra}]"' in TEXT


def test_options_of_many_weightings() -> None:
    measured = {name for name, info in WEIGHTINGS.items() if info.needs in (STEP, RUNNING)}
    assert {name for name, info in WEIGHTINGS.items() if "matrix" in info.options} == measured
    assert "All weightings that need a Gramian take `matrix` (default `gramian`)" in TEXT


def test_other_keys() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \| ", TEXT, re.MULTILINE))
    for conf in (SoupConf(), LayersConf()):
        for key, default in vars(conf).items():
            if key in SOUP_KEYS or key == "layers":
                continue
            written = yaml.safe_load(rows[key])
            assert written == (list(default) if isinstance(default, tuple) else default), key


def test_refusals() -> None:
    for name, reason in REFUSED.items():
        assert f"| `{name}` | {reason} |" in TEXT.splitlines()


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}` \| [^|]+ \| (.+) \|$", TEXT, re.MULTILINE)
    written = dict(re.findall(r"`(\w+): ([^`]+)`", row))
    found = {option: yaml.safe_load(value) for option, value in written.items()}
    assert found == {option: value.default for option, value in PENALTIES[name].items()}


def test_recipes() -> None:
    assert all(f"| `{name}` | " in TEXT for name in RECIPES)


def test_worked_example() -> None:
    conf = {"recipe": "multilevel", "weighting_conf": {"gamma": 0.1}}
    levels = resolve_levels(conf, EXAMPLE)
    assert soup_table(levels) in TEXT
    assert level_coefficients(levels, 46) == pytest.approx((1, 1, 0.9))
    soup = Soup(levels, EXAMPLE, weights_interval=2)
    assert soup.coefficients.tolist() == pytest.approx([0.5, 0.5, 0.05, 0.05, 0])
    gramian = torch.eye(5).double()
    gramian[:2, :2] = torch.tensor([[1.5, -0.2], [-0.2, 0.5]])
    pairs, counts = torch.full((5, 5), 20.0), torch.full((5,), 5)
    soup.refresh(20 * gramian, pairs, gramian.diagonal(), torch.ones(5), counts)
    assert soup.weights[:2].tolist() == pytest.approx([0.45, 0.55])


def test_written_levels() -> None:
    (block,) = re.findall(r"```yaml\n(.+?)```", TEXT, re.DOTALL)
    conf = yaml.safe_load(block)["trainer_conf"]
    levels = resolve_levels(conf, EXAMPLE[:4])
    assert [level.weighting for level in levels] == ["modo", "mgda"]


def test_figures_exist() -> None:
    figures = re.findall(r"\]\((images/.+?)\)", TEXT)
    assert len(figures) == 2
    assert all((DOCS / figure).is_file() for figure in figures)
