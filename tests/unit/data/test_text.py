# SPDX-License-Identifier: Apache-2.0
import itertools
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from espnet_objsoup.data.text import POLICIES, normalise, normalise_asr_text, normalise_st_text

LANGUAGES = "en fr de es ca it ru zh pt fa et mn nl tr ar sv lv sl ta ja id cy th az hi yue".split()
ZWNJ, ZWJ, TATWEEL = "\u200c", "\u200d", "\u0640"
# What the rules are about, more often than chance would have it.
HARD = st.sampled_from(
    "'’`´¸-·•.,٫½⁵①% İIıẞΣς中が゛ำน้lLa1€、ﹰﹱ\u0301\u0307\u0e4d\u0e32\u20e3"
    f"\u200b\u00ad\ufe0f\x07{TATWEEL}{ZWNJ}{ZWJ}"
)
TEXTS = st.text(st.one_of(HARD, st.characters(exclude_categories=["Cs", "Cn"])))


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("L’homme, aujourd’hui : « Oui ! »", "fr", "l'homme aujourd'hui oui"),
        ("l´homme c`est", "fr", "l'homme c'est"),
        ("Grand-mère dit — non.", "fr", "grand-mère dit non"),
        ("Intel·ligent, l'avi!", "ca", "intel·ligent l'avi"),
        ("El 3% de 1.000,50, 10:30 o 1½.", "es", "el 3 de 1.000,50 10 30 o 1½"),
        ("那个 女人，看见 了。", "zh", "那个女人看见了"),
        ("用 open source 软件 2 000 次", "zh", "用open source软件2 000次"),
        ("'quoted' words", "en", "quoted words"),
        ("ﬁne  ﬀ ｆｕｌｌ", "en", "fine ff full"),
        ("STRASSE und Straße, GROẞ", "de", "strasse und straße groß"),
        ("ΟΔΟΣ", "el", "οδος"),
        ("IĞDIR İzmir'de", "tr", "ığdır izmir'de"),
        ("I\u0307zmir", "tr", "izmir"),
        ("İzmir IGLOO", "de", "izmir igloo"),
        ("نعم؟ لا، لا؛ «نعم»۔", "ar", "نعم لا لا نعم"),
        ("क्या? हाँ।", "hi", "क्या हाँ"),
        ("👍🏽 ok 1️⃣ c++ #x_y", "en", "ok 1 c x y"),
    ],
)
def test_recognition_text(text: str, lang: str, expected: str) -> None:
    assert normalise_asr_text(text, lang) == expected


def test_translation_keeps_case_and_punctuation() -> None:
    assert normalise_st_text(" He said:  “Yes!” ", "en") == 'He said: "Yes!"'
    assert normalise("He said: Yes!", "en", "lc") == "he said: yes!"


NUMERALS = [chr(c) for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) == "No"]


@pytest.mark.parametrize("policy", POLICIES)
def test_fractions_and_raised_numbers_do_not_run_into_digits(policy: str) -> None:
    assert len(NUMERALS) > 800
    for written in ("2½ 10⁵ 5² x₁ ③ ㈩", *(f"1{numeral}2" for numeral in NUMERALS)):
        assert normalise(written, "en", policy) == written


def test_digits_of_other_widths_are_those_of_the_keyboard() -> None:
    assert normalise("５０％ 𝟓", "en", "tc") == "50% 5"


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lc\.rm"):
        normalise("x", "en", "upper")


@pytest.mark.parametrize("policy", POLICIES)
def test_joiners_stay_only_where_spelling_needs_them(policy: str) -> None:
    will = f"می{ZWNJ}خواهم"
    assert normalise(f"{ZWNJ}می{ZWNJ}{ZWNJ}خواهم{ZWNJ}", "fa", policy) == will
    assert normalise(will, "ar", policy) == "میخواهم"
    assert normalise(f"க்{ZWNJ}ஷ", "ta", policy) == "க்ஷ"
    assert normalise(f"क्{ZWJ}ष", "hi", policy) == f"क्{ZWJ}ष"


@pytest.mark.parametrize(
    ("text", "lang"),
    [("வணக்கம்", "ta"), ("السَّلامُ", "ar"), ("น้ำ", "th"), ("हिन्दी", "hi"), ("テレビ", "ja")],
)
def test_marks_are_part_of_letters(text: str, lang: str) -> None:
    assert normalise(text, lang, "lc.rm") == text
    inside = f"{text[:-1]}-{text}"  # a mark beside a hyphen does not end the word
    assert normalise(inside, lang, "lc.rm") == inside


@given(TEXTS, st.sampled_from(POLICIES), st.sampled_from(LANGUAGES))
@example("¸-0", "lc.rm", "en")
@example("か ゛", "tc", "ja")
@example("\u200b\u20e3\u200cı,", "lc.rm", "fa")
def test_normalising_twice_changes_nothing(text: str, policy: str, lang: str) -> None:
    once = normalise(text, lang, policy)
    assert normalise(once, lang, policy) == once
    assert once.split(" ") == (once.split() or [""])  # single spaces, none at the edges


@given(TEXTS, st.sampled_from(LANGUAGES))
def test_recognition_text_has_letters_digits_and_what_joins_them(text: str, lang: str) -> None:
    for character in normalise(text, lang, "lc.rm"):
        kind = unicodedata.category(character)[0]
        assert kind in "LMN" or character in f" '-·.,٫٬⁄{ZWNJ}{ZWJ}"
        # Capitals without a small form, such as mathematical ones that NFKC keeps, stay.
        assert character.lower() == character


@given(st.text(st.characters(categories=["L", "N"])), st.sampled_from(POLICIES))
def test_letters_and_digits_are_never_dropped(text: str, policy: str) -> None:
    other = f"{TATWEEL}ʼʻʹꞌ"  # letters in name only: an ornament, apostrophes

    def compose(text: str) -> str:
        parts = itertools.groupby(text, lambda c: unicodedata.category(c) == "No")
        return "".join(
            "".join(part) if numeral else unicodedata.normalize("NFKC", "".join(part))
            for numeral, part in parts
        )

    def letters(text: str) -> list[str]:
        composed = compose(compose(text).lower())
        return [c for c in composed if unicodedata.category(c)[0] in "LN" and c not in other]

    assert letters(normalise(text, "en", policy)) == letters(text.replace("İ", "i"))
