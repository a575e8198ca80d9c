# SPDX-License-Identifier: Apache-2.0
"""Meanings of sentences, drawn at random, and the split that a meaning belongs to.

A meaning is a small tree that every language's grammar can express. Development and test hold
word combinations (verb with object, adjective with noun) that training never has.
"""

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from espnet_objsoup.data.synthesis.lexicon import Lexicon, Row, forms

TENSES = ("present", "present", "past", "past", "future", "modal")
# Words of the lexicon's `tenses` column.
_TENSE_CODES = {"present": "pres", "past": "past", "future": "fut", "modal": "mod"}
_ANIMAL_VERBS = frozenset({"see", "find", "look for", "hear", "love"})
_SPLIT_BUCKETS = 20


@dataclass(frozen=True)
class NounPhrase:
    """A name, or a noun with determiner (def, indef, num, poss) and adjectives.

    `owner` is the possessor's gender: m, f or pl.
    """

    noun: Row | None = None
    name: Row | None = None
    adjectives: tuple[Row, ...] = ()
    determiner: str = "def"
    plural: bool = False
    number: Row | None = None
    owner: str | None = None

    @property
    def gender(self) -> str:
        """How a possessive refers back to it: m, f or pl."""
        if self.name is not None:
            return self.name["gender"]
        if self.plural:
            return "pl"
        return "f" if self.noun["gender"] == "f" else "m"

    @property
    def noun_class(self) -> str:
        """h for names, else the noun's class."""
        return "h" if self.name is not None else self.noun["class"]


@dataclass(frozen=True)
class Clause:
    """kind: copula (subject is adjective), intransitive or transitive."""

    kind: str
    subject: NounPhrase
    tense: str
    verb: Row | None = None
    object: NounPhrase | None = None
    predicate: Row | None = None
    negated: bool = False
    modal: Row | None = None
    time: Row | None = None
    place: tuple[Row, NounPhrase] | None = None


@dataclass(frozen=True)
class Sentence:
    """A main clause; with `report` "speaker says that main"; with `cause` "main because cause"."""

    main: Clause
    speaker: NounPhrase | None = None
    report: Row | None = None
    cause: Clause | None = None
    conjunction: Row | None = None

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """All clauses."""
        return (self.main,) if self.cause is None else (self.main, self.cause)


class SentenceSampler:
    """Draws meanings.

    Args:
        lexicon: the words.
        seed: of the generator; the same seed gives the same sentences on every platform.
    """

    def __init__(self, lexicon: Lexicon, seed: int) -> None:
        self.lexicon = lexicon
        self.random = random.Random(seed)

    def __iter__(self) -> Iterator[Sentence]:
        """Endless; meanings may repeat."""
        while True:
            yield self._sentence()

    def _sentence(self) -> Sentence:
        kind = self.random.random()
        if kind < 0.72:
            return Sentence(self._clause())
        if kind < 0.88:
            speaker = self._noun_phrase("h", names=True, adjectives=False, determiner="def")
            report = self.random.choice(self.lexicon.reports)
            return Sentence(self._clause(subordinate=True), speaker, report)
        main = self._clause(subordinate=True, places=False)
        cause = self._clause(subordinate=True, places=False)
        conjunction = self.random.choice(self.lexicon.causes)
        return Sentence(main, cause=cause, conjunction=conjunction)

    def _clause(self, subordinate: bool = False, places: bool = True) -> Clause:
        kind = self.random.random()
        if kind < 0.12:
            return self._copula()
        parts = self._intransitive if kind < 0.38 else self._transitive
        tense = self.random.choice(TENSES)
        modal = self.random.choice(self.lexicon.modals)
        time = None
        if not subordinate and self.random.random() < 0.35:
            times = [t for t in self.lexicon.times if _TENSE_CODES[tense] in t["tenses"].split()]
            time = self.random.choice(times)
        return Clause(tense=tense, modal=modal, time=time, **parts(subordinate, places))

    def _copula(self) -> Clause:
        subject = self._noun_phrase(
            "haop",
            adjectives=False,
            determiner=self.random.choice(["def", "def", "poss"]),
            owner=self.random.choice("mf"),
        )
        # "tired" and the like need a definite subject and are odd as a permanent property.
        predicates = [
            a
            for a in self.lexicon.adjectives
            if subject.noun_class in a["classes"] and a["en"] != "tired"
        ]
        tense = self.random.choice(["present", "past"])
        return Clause("copula", subject, tense, predicate=self.random.choice(predicates))

    def _intransitive(self, short: bool, places: bool) -> dict:
        subject = self._noun_phrase("ha", names=True)
        verbs = [
            v for v in self.lexicon.intransitive_verbs if subject.noun_class in v["subject_classes"]
        ]
        place = None
        if places and self.random.random() < 0.8:
            determiner = self.random.choice(["def", "def", "indef"])
            phrase = self._noun_phrase("p", adjectives=not short, determiner=determiner)
            place = (self.random.choice(self.lexicon.places), phrase)
        return {
            "kind": "intransitive",
            "subject": subject,
            "verb": self.random.choice(verbs),
            "place": place,
        }

    def _transitive(self, short: bool, places: bool) -> dict:
        classes = "h" if self.random.random() < 0.85 else "ha"
        subject = self._noun_phrase(classes, names=True)
        verbs = self.lexicon.transitive_verbs
        if subject.noun_class == "a":
            verbs = [v for v in verbs if forms(v["en"])[0] in _ANIMAL_VERBS]
        verb = self.random.choice(verbs)
        obj = self._noun_phrase(verb["object_classes"], owner=subject.gender)
        negated = obj.determiner == "def" and self.random.random() < 0.2
        place = None
        if places and self.random.random() < (0.15 if short else 0.3):
            phrase = self._noun_phrase("p", adjectives=False, determiner="def")
            place = (self.random.choice(self.lexicon.places), phrase)
        return {
            "kind": "transitive",
            "subject": subject,
            "verb": verb,
            "object": obj,
            "negated": negated,
            "place": place,
        }

    def _noun_phrase(
        self,
        classes: str,
        names: bool = False,
        adjectives: bool = True,
        determiner: str | None = None,
        owner: str | None = None,
    ) -> NounPhrase:
        if names and self.random.random() < 0.12:
            return NounPhrase(name=self.random.choice(self.lexicon.names))
        noun = self.random.choice([n for n in self.lexicon.nouns if n["class"] in classes])
        chosen: tuple[Row, ...] = ()
        if adjectives and self.random.random() < 0.45:
            fitting = [
                a
                for a in self.lexicon.adjectives
                if noun["class"] in a["classes"] and a["en"] != "tired"
            ]
            chosen = (self.random.choice(fitting),)
        determiner = determiner or self._determiner(owner)
        plural = determiner == "num" or (determiner != "indef" and self.random.random() < 0.25)
        number = self.random.choice(self.lexicon.numbers) if determiner == "num" else None
        return NounPhrase(noun, None, chosen, determiner, plural, number, owner)

    def _determiner(self, owner: str | None) -> str:
        draw = self.random.random()
        if draw < 0.12:
            return "num"
        if owner is not None and draw < 0.3:
            return "poss"
        return "indef" if draw < 0.55 else "def"


def word_pairs(sentence: Sentence) -> list[tuple[str, str, str]]:
    """Combinations of words that decide the split."""
    pairs = []
    for clause in sentence.clauses:
        if clause.kind == "transitive":
            pairs.append(("object", clause.verb["en"], clause.object.noun["en"]))
        phrases = (clause.subject, clause.object, clause.place[1] if clause.place else None)
        for phrase in phrases:
            if phrase is not None and phrase.noun is not None:
                pairs += [("adjective", a["en"], phrase.noun["en"]) for a in phrase.adjectives]
    return pairs


def split_of(sentence: Sentence) -> str:
    """`test`, `dev` or `train`, by the rarest combination of words in it."""
    buckets = _buckets(word_pairs(sentence))
    return "test" if 0 in buckets else "dev" if 1 in buckets else "train"


def _buckets(pairs: Sequence[tuple[str, str, str]]) -> set[int]:
    return {zlib.crc32("|".join(pair).encode()) % _SPLIT_BUCKETS for pair in pairs}
