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
_LATIN = regex.compile(r"[\p{Script=Latin}&&\p{L}]", regex.V1)


@cache
def _letters_of(lang: str) -> regex.Pattern[str]:
    names = _SCRIPTS.get(lang, "Latin").split()
    return regex.compile(
        "[" + "".join(rf"\p{{Script={name}}}" for name in names) + "&&\\p{L}]", regex.V1
    )


def in_foreign_script(text: str, lang: str) -> bool:
    """Whether a text has letters, but none or less than half of them of its language's script.

    Names and borrowed words in Latin letters are common in all languages, and in Chinese or
    Japanese longer than what is said of them, so Latin letters count only where the text has none
    of the language's own. Languages that are not known here are taken to have the Latin script.
    """
    if text.isascii() and lang not in _SCRIPTS:
        return False
    letters = len(_LETTER.findall(text))
    own = len(_letters_of(lang).findall(text))
    if own and lang in _SCRIPTS:
        letters -= len(_LATIN.findall(text))
    return letters > 0 and 2 * own < letters
