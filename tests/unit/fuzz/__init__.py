# SPDX-License-Identifier: Apache-2.0
"""Every parser, given anything: a valid result, or the documented error that names the place.

Quick and always the same by default; `OBJSOUP_FUZZ_EXAMPLES=5000 pytest tests/unit/fuzz` looks for
new inputs instead. No file here imports torch or ESPnet.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_EXAMPLES = os.environ.get("OBJSOUP_FUZZ_EXAMPLES", "")


def fuzz(cost: float = 1.0) -> settings:
    """Settings of a test; one whose examples take longer has a higher cost, and fewer of them."""
    return settings(
        max_examples=max(1, round(int(_EXAMPLES or 60) / cost)),
        derandomize=not _EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def outcome(work: Callable[[], Any], error: type[Exception], place: str) -> Any:
    """The result of a parser, or None after an `error` whose message matches `place`.

    Raises:
        AssertionError: if the message names no place.
        Exception: of any other type, as it is.
    """
    try:
        return work()
    except error as err:
        found = str(err)
    assert re.search(place, found), f"expected {place} in the message, found: {found}"
    return None


@contextmanager
def directory() -> Iterator[Path]:
    """A new directory for each example, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        yield Path(name)


# Characters that divide or end something for somebody.
SEPARATORS = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x85\xa0\u2028\u2029\u3000\ufeff\u200b\0|<>:'\"\\$`;"
texts = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from(SEPARATORS)), max_size=30)
# Bytes that are text mostly, and not always UTF-8.
contents = st.one_of(
    st.binary(max_size=200),
    st.lists(texts, max_size=8).map(lambda lines: "\n".join(lines).encode()),
    st.lists(st.lists(texts, max_size=4).map(" ".join), max_size=8).map(
        lambda lines: "\r\n".join(lines).encode()
    ),
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A valid file with a few bytes changed, put in or left out, or cut off."""
    result = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(result)))
        kind = draw(st.sampled_from(("replace", "insert", "delete", "cut")))
        if kind == "insert":
            result[at:at] = draw(
                st.one_of(st.binary(min_size=1, max_size=8), texts.map(str.encode))
            )
        elif kind == "delete":
            del result[at : at + draw(st.integers(1, 20))]
        elif kind == "replace":
            result[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        else:
            del result[at:]
    return bytes(result)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.just(10**400),
    st.floats(),
    texts,
)
# What YAML may hold.
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(texts, st.integers(), st.none()), inner, max_size=4),
    ),
    max_leaves=10,
)


def mappings(known: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[Any, Any]]:
    """Mappings with known keys and likely values, now and then with anything."""
    items = [
        st.tuples(st.just(key), st.one_of(likely, likely, values, st.none()))
        for key, likely in known.items()
    ]
    strange = st.tuples(st.one_of(texts, st.integers(), st.none(), st.booleans()), values)
    several = st.lists(st.one_of(*items, *items, strange), max_size=5)
    return several.map(dict)
