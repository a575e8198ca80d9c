# SPDX-License-Identifier: Apache-2.0
"""German: cases, verb second in main clauses, verb last in subordinate ones."""

import re

from espnet_objsoup.data.synthesis.lexicon import forms
from espnet_objsoup.data.synthesis.sentences import Clause, NounPhrase, Sentence

# Endings by case and by gender (m f n) or plural (p).
_DEFINITE = {
    "nom": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "acc": {"m": "den", "f": "die", "n": "das", "p": "die"},
    "dat": {"m": "dem", "f": "der", "n": "dem", "p": "den"},
}
_EIN = {
    "nom": {"m": "", "f": "e", "n": "", "p": "e"},
    "acc": {"m": "en", "f": "e", "n": "", "p": "e"},
    "dat": {"m": "em", "f": "er", "n": "em", "p": "en"},
}
_WEAK = {
    "nom": {"m": "e", "f": "e", "n": "e", "p": "en"},
    "acc": {"m": "en", "f": "e", "n": "e", "p": "en"},
    "dat": {"m": "en", "f": "en", "n": "en", "p": "en"},
}
_MIXED = {
    "nom": {"m": "er", "f": "e", "n": "es", "p": "en"},
    "acc": {"m": "en", "f": "e", "n": "es", "p": "en"},
    "dat": {"m": "en", "f": "en", "n": "en", "p": "en"},
}
_STRONG_PLURAL = {"nom": "e", "acc": "e", "dat": "en"}
_OWNERS = {"m": "sein", "f": "ihr", "pl": "ihr"}
_STEMS = {"teuer": "teur"}


def sentence(s: Sentence) -> str:
    """Sentence without full stop; nouns capitalised."""
    if s.report is not None:
        report = forms(s.report["de"])[s.speaker.plural]
        return f"{_phrase(s.speaker, 'nom')} {report} {_subordinate(s.main)}"
    if s.cause is not None:
        return f"{_main(s.main)}, {s.conjunction['de']} {_subordinate(s.cause)}"
    return _main(s.main)


def _phrase(phrase: NounPhrase, case: str) -> str:
    if phrase.name is not None:
        return phrase.name["de"]
    gender = "p" if phrase.plural else phrase.noun["de"].split(" ", 1)[0]
    if phrase.determiner == "def":
        determiner, endings = _DEFINITE[case][gender], _WEAK[case]
    elif phrase.determiner == "num":
        determiner, endings = phrase.number["de"], {"p": _STRONG_PLURAL[case]}
    else:
        stem = "ein" if phrase.determiner == "indef" else _OWNERS[phrase.owner]
        determiner, endings = stem + _EIN[case][gender], _MIXED[case]
    adjectives = [_STEMS.get(a["de"], a["de"]) + endings[gender] for a in phrase.adjectives]
    return " ".join([determiner, *adjectives, _noun(phrase, case)])


def _noun(phrase: NounPhrase, case: str) -> str:
    variants = forms(phrase.noun["de"].split(" ", 1)[1])
    if phrase.plural:
        noun = variants[1]
        return noun + "n" if case == "dat" and noun[-1] not in "ns" else noun
    weak = len(variants) > 2 and case != "nom"
    return variants[2] if weak else variants[0]


def _parts(c: Clause) -> tuple[str, str, list[str], str]:
    """Subject, finite verb, middle field, and what stands at the end."""
    subject, plural = _phrase(c.subject, "nom"), c.subject.plural
    if c.kind == "copula":
        be = {"present": ("ist", "sind"), "past": ("war", "waren")}[c.tense][plural]
        return subject, be, [], c.predicate["de"]
    infinitive, third, participle = forms(c.verb["de"])
    finite, last = {
        "present": (infinitive if plural else third, ""),
        "past": ("haben" if plural else "hat", participle),
        "future": ("werden" if plural else "wird", infinitive),
        "modal": (forms(c.modal["de"])[plural], infinitive),
    }[c.tense]
    middle = []
    if c.object is not None:
        middle.append(_phrase(c.object, "acc"))
    if c.negated:
        middle.append("nicht")
    if c.place is not None:
        place = f"{c.place[0]['de']} {_phrase(c.place[1], 'dat')}"
        place = re.sub(r"^in dem ", "im ", place)
        middle.append(re.sub(r"^bei dem ", "beim ", place))
    return subject, finite, middle, last


def _main(c: Clause) -> str:
    subject, finite, middle, last = _parts(c)
    front = [subject, finite] if c.time is None else [c.time["de"], finite, subject]
    return " ".join(part for part in (*front, *middle, last) if part)


def _subordinate(c: Clause) -> str:
    subject, finite, middle, last = _parts(c)
    return " ".join(part for part in (subject, *middle, last, finite) if part)
