# SPDX-License-Identifier: Apache-2.0
"""Whether a text is written in the script of its language."""

from functools import cache

import regex

_SCRIPTS = {
    "ar": "Arabic",
    "fa": "Arabic",
    "ja": "Han Hiragana Katakana",
    "mn": "Cyrillic Mongolian",
    "ru": "Cyrillic",
    "ta": "Tamil",
    "zh": "Han",
}
# Without those of all scripts, such as the mark of long vowels in Japanese.
_LETTER = regex.compile(r"[\p{L}--\p{Script=Common}--\p{Script=Inherited}]", regex.V1)


@cache
def _letters_of(lang: str) -> regex.Pattern[str]:
    names = _SCRIPTS.get(lang, "Latin").split()
    return regex.compile(
        "[" + "".join(rf"\p{{Script={name}}}" for name in names) + "&&\\p{L}]", regex.V1
    )


def in_foreign_script(text: str, lang: str) -> bool:
    """Whether fewer than half of a text's letters are of the script of its language.

    Languages that are not known here are taken to have the Latin script. Names and borrowed words
    of other scripts are common, so a part of a text does not count.
    """
    if text.isascii() and lang not in _SCRIPTS:
        return False
    letters = len(_LETTER.findall(text))
    return letters > 0 and 2 * len(_letters_of(lang).findall(text)) < letters
