# SPDX-License-Identifier: Apache-2.0
"""The examples in docs/data_format.md are true."""

import re
from pathlib import Path

import pytest

from espnet_objsoup.data.datadir import OPTIONAL, REQUIRED
from espnet_objsoup.data.text import POLICIES, normalise

TEXT = (Path(__file__).parents[2] / "docs" / "data_format.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| `([a-z.]+)` \| (\w+) \| `(.+)` \| `(.+)` \|$", TEXT, re.MULTILINE)


COVOST2 = "en fr de es ca it ru zh pt fa et mn nl tr ar sv lv sl ta ja id cy".split()


def test_every_language_of_covost2_has_an_example() -> None:
    assert set(COVOST2) <= {lang for policy, lang, *_ in EXAMPLES if policy == "lc.rm"}
    assert {policy for policy, *_ in EXAMPLES} == set(POLICIES)


@pytest.mark.parametrize(("policy", "lang", "text", "result"), EXAMPLES)
def test_example(policy: str, lang: str, text: str, result: str) -> None:
    assert normalise(text, lang, policy) == result != text or (policy, lang) == ("tc", "fa")
    assert normalise(result, lang, policy) == result


def test_every_file_is_documented() -> None:
    assert all(f"`{name}`" in TEXT for name in (*REQUIRED, *OPTIONAL))
