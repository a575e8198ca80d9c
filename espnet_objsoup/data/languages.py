# SPDX-License-Identifier: Apache-2.0
"""Codes of languages: bare ones in data directories, with a region where a corpus writes so."""

import re
from collections.abc import Sequence

# Languages that Common Voice and CoVoST 2 name with a region.
CORPUS_CODES = {"zh": "zh-CN", "sv": "sv-SE"}
_BARE_CODES = {code: lang for lang, code in CORPUS_CODES.items()}
_CODE = r"[a-zA-Z_]+(?:-[A-Z]{2})?"
_PAIR = re.compile(rf"({_CODE})-({_CODE})")


def bare_code(code: str) -> str:
    """`zh` of `zh-CN`; other codes as they are."""
    return _BARE_CODES.get(code, code)


def parse_langs(values: Sequence[str]) -> list[str]:
    """Bare codes, each once; `zh-CN` is `zh`."""
    return list(dict.fromkeys(map(bare_code, values)))


def parse_pairs(values: Sequence[str]) -> list[tuple[str, str]]:
    """Parse `fr-en`, `zh-CN-en` and the like into bare codes; each pair once.

    Raises:
        ValueError: for anything but two codes of languages.
    """
    pairs = []
    for value in values:
        match = _PAIR.fullmatch(value)
        if match is None:
            raise ValueError(f"st_pairs: expected <source>-<target> such as fr-en, found {value!r}")
        pairs.append((bare_code(match[1]), bare_code(match[2])))
    return list(dict.fromkeys(pairs))
