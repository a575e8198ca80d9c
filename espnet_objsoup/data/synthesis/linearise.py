# SPDX-License-Identifier: Apache-2.0
"""A meaning in words of one language."""

from espnet_objsoup.data.synthesis import chinese, english, german, romance
from espnet_objsoup.data.synthesis.sentences import Sentence

LANGUAGES = ("en", "fr", "de", "es", "ca", "zh")


def linearise(sentence: Sentence, lang: str) -> str:
    """The sentence with capital letter and full stop.

    Raises:
        ValueError: for a language without a grammar.
    """
    if lang == "en":
        text = english.sentence(sentence)
    elif lang == "de":
        text = german.sentence(sentence)
    elif lang == "zh":
        return chinese.sentence(sentence) + "。"
    elif lang in romance.LANGUAGES:
        text = romance.sentence(sentence, lang)
    else:
        raise ValueError(f"language: expected one of {', '.join(LANGUAGES)}, found {lang!r}")
    return text[0].upper() + text[1:] + "."
