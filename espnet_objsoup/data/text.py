# SPDX-License-Identifier: Apache-2.0
"""Text normalisation, the same in data preparation and in scoring.

Policies, by the names that ESPnet's translation recipes use:
    tc     case and punctuation kept; Unicode NFKC, quotes and spaces made uniform
    lc     the same in lower case
    lc.rm  lower case; of punctuation and symbols only what is part of a word or a number
Nothing is spelled out, no letter, mark or digit is dropped, and numerals stay as they are,
fractions and exponents too. docs/data_format.md has the rules language by language, with examples.
Normalising twice gives what normalising once gives.
"""

import unicodedata

import regex

POLICIES = ("tc", "lc", "lc.rm")
# Written without spaces between words: spaces are not kept, and errors are counted in characters.
UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "yue"})

_DOTLESS_I = frozenset({"tr", "az"})

# Spacing accents that are typed for an apostrophe; NFKC would make a space and an accent of them.
# Control characters that are no white space mean nothing in a text.
_AS_TYPED = str.maketrans("´`", "''") | dict.fromkeys(
    code for code in (*range(0x20), *range(0x7F, 0xA0)) if not chr(code).isspace()
)
_UNIFORM = (
    dict.fromkeys(map(ord, "’‘‛‚ʼʻʹ′‹›ꞌ"), "'")
    | dict.fromkeys(map(ord, "“”„‟«»″"), '"')
    | dict.fromkeys(map(ord, "‐‑"), "-")
    # Zero-width space; a character that SentencePiece needs for itself.
    | dict.fromkeys(map(ord, "\u200b▁"), " ")
    # Invisible: soft hyphen, directions, word joiner, byte order mark, variation selectors; and the
    # tatweel, which stretches an Arabic word on the page.
    | dict.fromkeys(map(ord, "\u00ad\u061c\u200e\u200f\u2060\ufeff\u0640"))
    | dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
    | dict.fromkeys([*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)])
)
# One letter by two keyboards.
_PERSIAN = str.maketrans("يىك", "ییک")
# Zero-width joiners are part of the spelling in these languages, elsewhere a leftover of typing.
_ZWNJ, _ZWJ = "\u200c", "\u200d"
_JOINERS = dict.fromkeys(("fa", "ckb", "ps", "ur"), _ZWNJ) | dict.fromkeys(
    ("as", "bn", "gu", "hi", "kn", "ml", "mr", "ne", "or", "pa", "si", "te"), _ZWNJ + _ZWJ
)
_WORD = r"\p{L}\p{M}\p{N}"
_OUTER_JOINER = regex.compile(rf"(?<![{_WORD}])[{_ZWNJ}{_ZWJ}]+|[{_ZWNJ}{_ZWJ}]+(?![{_WORD}])")
_REPEATED_JOINER = regex.compile(rf"([{_ZWNJ}{_ZWJ}])[{_ZWNJ}{_ZWJ}]+")
# Whatever is neither letter, mark, digit nor joiner, except apostrophe, hyphen and middle dot
# between two of those, and the marks of decimals, thousands and fractions between two digits.
_DROPPED = regex.compile(
    rf"(?!(?<=[{_WORD}])['·-](?=[{_WORD}]))"
    r"(?!(?<=\p{N})[.,٫٬⁄](?=\p{N}))"
    rf"[^{_WORD}{_ZWNJ}{_ZWJ}\s]+?"
)
# Marks without a letter, and those that enclose a symbol.
_STRANDED_MARKS = regex.compile(rf"(?<![{_WORD}{_ZWNJ}{_ZWJ}])\p{{M}}+|\p{{Me}}\p{{M}}*")
# Fractions, raised, lowered and circled numbers. NFKC would run their digits into those beside
# them: 2½ would be 21⁄2, and 10⁵ would be 105.
_NO_NUMERAL = regex.compile(r"\P{No}+")
_CATALAN_DOTS = regex.compile(r"(?<=[lL])[•‧∙⋅・](?=[lL])")
# Scripts, with their punctuation, beside which a space means nothing.
_UNSPACED_SCRIPT = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    r"\u3000-\u303f\u30fb-\u30fc"
)
_NO_SPACE = regex.compile(rf"(?<=[{_UNSPACED_SCRIPT}][\p{{M}} ]*) | (?=[{_UNSPACED_SCRIPT}])")


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
    text = _uniform(text, lang)
    if policy != "tc":
        text = _lower(text, lang)
    if policy == "lc.rm":
        text = _remove_punctuation(text)
    return _spaces(text, lang)


def normalise_asr_text(text: str, lang: str, policy: str = "lc.rm") -> str:
    """Transcript of recognition; `lc.rm` unless told otherwise."""
    return normalise(text, lang, policy)


def normalise_st_text(text: str, lang: str, policy: str = "tc") -> str:
    """Translation; case and punctuation are part of it unless told otherwise."""
    return normalise(text, lang, policy)


def _uniform(text: str, lang: str) -> str:
    """One way to write each character."""
    if text.isascii():
        return text.translate(_AS_TYPED)
    text = _compose(text.translate(_AS_TYPED))
    # Replacing may bring a letter and its accent together.
    text = _compose(text.translate(_UNIFORM))
    if lang == "fa":
        text = text.translate(_PERSIAN)
    if lang == "ca":
        text = _CATALAN_DOTS.sub("·", text)
    if _ZWNJ in text or _ZWJ in text:
        kept = _JOINERS.get(lang, "")
        text = "".join(c for c in text if c not in (_ZWNJ, _ZWJ) or c in kept)
        text = _OUTER_JOINER.sub("", _REPEATED_JOINER.sub(r"\1", _compose(text)))
    return _compose(text)


def _compose(text: str) -> str:
    """NFKC, except for numerals that are no decimal digits and the vowel am of Thai and Lao.

    It takes that apart, as no keyboard writes it.
    """
    text = _NO_NUMERAL.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return text.replace("\u0e4d\u0e32", "\u0e33").replace("\u0ecd\u0eb2", "\u0eb3")


def _lower(text: str, lang: str) -> str:
    """Lower case: in Turkish and Azeri `I` loses no dot; `İ` becomes `i` everywhere."""
    text = text.replace("İ", "i")
    if lang in _DOTLESS_I:
        text = text.replace("I", "ı")
    return text if text.isascii() and text.islower() else _compose(text.lower())


def _remove_punctuation(text: str) -> str:
    while True:
        kept = _DROPPED.sub(" ", _STRANDED_MARKS.sub(" ", text))
        if _ZWNJ not in kept and _ZWJ not in kept:
            return kept
        # What was beside a joiner may be gone now, and then a mark stands alone.
        kept = _OUTER_JOINER.sub("", kept)
        if kept == text:
            return kept
        text = kept


def _spaces(text: str, lang: str) -> str:
    text = " ".join(text.split())
    if lang not in UNSPACED_LANGUAGES:
        return text
    # Removing a space may bring a letter and its mark together.
    return _compose(_NO_SPACE.sub("", text))
