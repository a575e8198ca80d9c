# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_objsoup.data.text import POLICIES, normalise, normalise_asr_text, normalise_st_text


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("L’homme, aujourd’hui : « Oui ! »", "fr", "l'homme aujourd'hui oui"),
        ("Grand-mère dit — non.", "fr", "grand-mère dit non"),
        ("Intel·ligent, l'avi!", "ca", "intel·ligent l'avi"),
        ("El 3% de 1.000", "es", "el 3 de 1 000"),
        ("那个 女人，看见 了。", "zh", "那个女人看见了"),
        ("'quoted' words", "en", "quoted words"),
        ("ﬁne  ﬀ", "en", "fine ff"),
        ("STRASSE und Straße", "de", "strasse und straße"),
    ],
)
def test_recognition_text(text: str, lang: str, expected: str) -> None:
    assert normalise_asr_text(text, lang) == expected


def test_translation_keeps_case_and_punctuation() -> None:
    assert normalise_st_text(" He said:  “Yes!” ", "en") == 'He said: "Yes!"'
    assert normalise("He said: Yes!", "en", "lc") == "he said: yes!"


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lc\.rm"):
        normalise("x", "en", "upper")


@given(st.text(), st.sampled_from(POLICIES), st.sampled_from(["fr", "zh"]))
def test_normalising_twice_changes_nothing(text: str, policy: str, lang: str) -> None:
    once = normalise(text, lang, policy)
    assert "\n" not in once
    assert once == once.strip()
    if text.isascii():
        assert normalise(once, lang, policy) == once
