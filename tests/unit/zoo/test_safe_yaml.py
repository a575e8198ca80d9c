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
        b"[" * 5000,
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_is_no_plain_yaml(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"meta\.yaml: (line \d+: )?expected YAML, found ."):
        load_yaml(content, "meta.yaml")
