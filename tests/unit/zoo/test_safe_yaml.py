# SPDX-License-Identifier: Apache-2.0
"""YAML of strangers has one error, whatever is wrong with it."""

import pytest

from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.safe_yaml import load_yaml


@pytest.mark.parametrize(
    "content",
    [
        b"a: !!bool x",
        b"a: !!timestamp x",
        b"a: !!int ''",
        b"a: !!python/object/apply:os.system [x]",
        b"a: [",
        b"\xff",
        b"&a [*a]",
        b"a: 1\nb: 2\na: 3",
        b"x: {a: {b: 1, b: 2}}",
        b"[" * 5000,
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_is_no_plain_yaml(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"meta\.yaml: (line \d+: )?expected YAML, found ."):
        load_yaml(content, "meta.yaml")


def test_merged_keys_may_be_given_again() -> None:
    content = b"base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}"
    assert load_yaml(content, "meta.yaml")["own"] == {"a": 1, "b": 3}
