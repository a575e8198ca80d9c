# SPDX-License-Identifier: Apache-2.0
"""English."""

from espnet_objsoup.data.synthesis.lexicon import forms
from espnet_objsoup.data.synthesis.sentences import Clause, NounPhrase, Sentence

_OWNERS = {"m": "his", "f": "her", "pl": "their"}
_NEGATED_MODALS = {
    "wants to": "does not want to",
    "want to": "do not want to",
    "can": "cannot",
    "must": "must not",
}


def sentence(s: Sentence) -> str:
    """Lower-case sentence without full stop."""
    text = _clause(s.main)
    if s.report is not None:
        return f"{_phrase(s.speaker)} {forms(s.report['en'])[s.speaker.plural]} {text}"
    if s.cause is not None:
        return f"{text} {s.conjunction['en']} {_clause(s.cause)}"
    return text


def _phrase(phrase: NounPhrase) -> str:
    if phrase.name is not None:
        return phrase.name["en"]
    words = [a["en"] for a in phrase.adjectives] + [forms(phrase.noun["en"])[phrase.plural]]
    body = " ".join(words)
    if phrase.determiner == "def":
        return f"the {body}"
    if phrase.determiner == "num":
        return f"{phrase.number['en']} {body}"
    if phrase.determiner == "poss":
        return f"{_OWNERS[phrase.owner]} {body}"
    return f"an {body}" if body[0] in "aeiou" else f"a {body}"


def _clause(c: Clause) -> str:
    subject = _phrase(c.subject)
    if c.kind == "copula":
        be = {"present": ("is", "are"), "past": ("was", "were")}[c.tense][c.subject.plural]
        return f"{subject} {be} {c.predicate['en']}"
    parts = [subject, _verb(c)]
    if c.object is not None:
        parts.append(_phrase(c.object))
    if c.place is not None:
        parts += [c.place[0]["en"], _phrase(c.place[1])]
    if c.time is not None:
        parts.append(c.time["en"])
    return " ".join(parts)


def _verb(c: Clause) -> str:
    base, third, past = forms(c.verb["en"])
    plural = c.subject.plural
    if c.tense == "present":
        if c.negated:
            return f"{'do' if plural else 'does'} not {base}"
        return base if plural else third
    if c.tense == "past":
        return f"did not {base}" if c.negated else past
    if c.tense == "future":
        return f"will not {base}" if c.negated else f"will {base}"
    modal = forms(c.modal["en"])[plural]
    return f"{_NEGATED_MODALS[modal] if c.negated else modal} {base}"
