# SPDX-License-Identifier: Apache-2.0
"""The examples in docs/data_format.md are true."""

import re
from pathlib import Path

import pytest

from espnet_objsoup.data.datadir import OPTIONAL, REQUIRED
from espnet_objsoup.data.text import normalise

TEXT = (Path(__file__).parents[2] / "docs" / "data_format.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| `([a-z.]+)` \| (\w+) \| `(.+)` \| `(.+)` \|$", TEXT, re.MULTILINE)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 7


@pytest.mark.parametrize(("policy", "lang", "text", "result"), EXAMPLES)
def test_example(policy: str, lang: str, text: str, result: str) -> None:
    assert normalise(text, lang, policy) == result


def test_every_file_is_documented() -> None:
    assert all(f"`{name}`" in TEXT for name in (*REQUIRED, *OPTIONAL))
