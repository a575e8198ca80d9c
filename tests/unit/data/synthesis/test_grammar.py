# SPDX-License-Identifier: Apache-2.0
import itertools
import re
from dataclasses import replace

import pytest

from espnet_objsoup.data.synthesis import LANGUAGES, SentenceSampler, linearise, split_of
from espnet_objsoup.data.synthesis.lexicon import Lexicon, load_lexicon
from espnet_objsoup.data.synthesis.sentences import Clause, NounPhrase, Sentence, word_pairs

FULL = load_lexicon("full")


def find(table: str, english: str) -> dict[str, str]:
    (row,) = [r for r in getattr(FULL, table) if r["en"].split("/")[0] == english]
    return row


def noun(english: str, *adjectives: str, **options) -> NounPhrase:
    rows = tuple(find("adjectives", a) for a in adjectives)
    return NounPhrase(find("nouns", english), adjectives=rows, **options)


SEE = Clause(
    "transitive",
    noun("man", "old"),
    "past",
    find("transitive_verbs", "see"),
    noun("woman", "beautiful"),
    modal=find("modals", "wants to"),
    time=find("times", "yesterday"),
    place=(find("places", "in"), noun("garden")),
)


@pytest.mark.parametrize(
    ("lang", "expected"),
    [
        ("en", "The old man saw the beautiful woman in the garden yesterday."),
        ("fr", "Hier, le vieil homme a vu la belle femme dans le jardin."),
        ("de", "Gestern hat der alte Mann die schöne Frau im Garten gesehen."),
        ("es", "Ayer, el hombre viejo vio a la mujer hermosa en el jardín."),
        ("ca", "Ahir, l'home vell va veure la dona bonica al jardí."),
        ("zh", "昨天那个老男人在那个花园里看见了那个漂亮的女人。"),
    ],
)
def test_one_meaning_in_all_languages(lang: str, expected: str) -> None:
    assert linearise(Sentence(SEE), lang) == expected


@pytest.mark.parametrize(
    ("lang", "expected"),
    [
        ("en", "The boys know that the old man did not see the beautiful woman in the garden."),
        ("fr", "Les garçons savent que le vieil homme n'a pas vu la belle femme dans le jardin."),
        (
            "de",
            "Die Jungen wissen, dass der alte Mann die schöne Frau nicht im Garten gesehen hat.",
        ),
        ("zh", "那些男孩知道那个老男人没有在那个花园里看见那个漂亮的女人。"),
    ],
)
def test_subordinate_clauses_and_negation(lang: str, expected: str) -> None:
    clause = replace(SEE, time=None, negated=True)
    meaning = Sentence(clause, noun("boy", plural=True), find("reports", "knows that"))
    assert linearise(meaning, lang) == expected


def test_possessives_depend_on_the_subject() -> None:
    clause = Clause(
        "transitive", noun("girl"), "present", find("transitive_verbs", "love"),
        noun("dog", determiner="poss", owner="f"), modal=find("modals", "can"),
    )  # fmt: skip
    assert linearise(Sentence(clause), "en") == "The girl loves her dog."
    assert linearise(Sentence(clause), "fr") == "La fille aime son chien."
    assert linearise(Sentence(clause), "de") == "Das Mädchen liebt ihren Hund."


@pytest.mark.parametrize("lexicon", [load_lexicon("small"), FULL], ids=["small", "full"])
def test_no_sentence_has_a_broken_join(lexicon: Lexicon) -> None:
    broken = {
        "fr": r"\b(le|la|de|ne|que) [aeiouéèêâîôœh]|\bde les?\b|\bsa [aeiouéœ]",
        "es": r"\b(a|de) el\b",
        "ca": r"\b(a|de) els?\b|\b(el|de) [aeiouàèéí]",
        "de": r"\b(in|bei) dem\b",
        "en": r"\ba [aeiou]|\ban [^aeiou]",
        "zh": r"[a-zA-Z ]",
    }
    for meaning in itertools.islice(SentenceSampler(lexicon, 1), 2000):
        for lang in LANGUAGES:
            text = linearise(meaning, lang)
            assert not re.search(broken[lang], text), (lang, text)
            assert "  " not in text
            assert " ," not in text


def test_same_seed_same_sentences() -> None:
    texts = [
        [linearise(m, "de") for m in itertools.islice(SentenceSampler(FULL, seed), 50)]
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_splits_share_no_combination_of_words_that_is_held_out() -> None:
    pairs: dict[str, set] = {"train": set(), "dev": set(), "test": set()}
    held_out: dict[str, set] = {"dev": set(), "test": set()}
    for meaning in itertools.islice(SentenceSampler(FULL, 3), 5000):
        split = split_of(meaning)
        pairs[split].update(word_pairs(meaning))
    for split in held_out:
        held_out[split] = pairs[split] - pairs["train"]
        assert held_out[split], split
    # Every development or test sentence has a combination that training lacks.
    for meaning in itertools.islice(SentenceSampler(FULL, 4), 500):
        if split_of(meaning) != "train":
            assert set(word_pairs(meaning)) - pairs["train"]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="en, fr, de, es, ca, zh"):
        linearise(Sentence(SEE), "it")
    with pytest.raises(ValueError, match="small, full"):
        load_lexicon("large")
