# SPDX-License-Identifier: Apache-2.0
"""Text normalisation, the same in data preparation and in scoring.

Policies, by the names that ESPnet's translation recipes use:
    tc     case and punctuation kept; Unicode NFKC, quotes and spaces made uniform
    lc     the same in lower case
    lc.rm  lower case, punctuation removed, except `'`, `-` and `·` inside a word
Numerals are left alone. Chinese, Japanese and Thai have no spaces.
"""

import re
import unicodedata

POLICIES = ("tc", "lc", "lc.rm")
UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "yue"})
_QUOTES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "“": '"', "”": '"', "„": '"'})
_QUOTES |= str.maketrans({"«": '"', "»": '"', "‐": "-", "‑": "-"})
_INSIDE_WORD = "'-·"


def normalise(text: str, lang: str, policy: str) -> str:
    """Normalise a transcript or a translation.

    Args:
        text: any text.
        lang: code of its language, such as `fr`.
        policy: one of `POLICIES`.

    Returns:
        The text, possibly empty, without leading, trailing or repeated spaces.

    Raises:
        ValueError: for an unknown policy.
    """
    if policy not in POLICIES:
        raise ValueError(f"text policy: expected one of {', '.join(POLICIES)}, found {policy!r}")
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    if policy != "tc":
        text = text.lower()
    if policy == "lc.rm":
        text = _remove_punctuation(text)
    separator = "" if lang in UNSPACED_LANGUAGES else " "
    return separator.join(text.split())


def normalise_asr_text(text: str, lang: str, policy: str = "lc.rm") -> str:
    """Transcript of recognition; `lc.rm` unless told otherwise."""
    return normalise(text, lang, policy)


def normalise_st_text(text: str, lang: str, policy: str = "tc") -> str:
    """Translation; case and punctuation are part of it unless told otherwise."""
    return normalise(text, lang, policy)


def _remove_punctuation(text: str) -> str:
    characters = []
    for i, character in enumerate(text):
        if unicodedata.category(character)[0] not in "PS" or (
            character in _INSIDE_WORD and _is_inside_word(text, i)
        ):
            characters.append(character)
        else:
            characters.append(" ")
    return re.sub(r"\s+", " ", "".join(characters))


def _is_inside_word(text: str, i: int) -> bool:
    return 0 < i < len(text) - 1 and text[i - 1].isalnum() and text[i + 1].isalnum()
