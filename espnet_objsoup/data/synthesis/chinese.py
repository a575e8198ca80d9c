# SPDX-License-Identifier: Apache-2.0
"""Mandarin: time and place before the verb, measure words, aspect."""

from espnet_objsoup.data.synthesis.sentences import Clause, NounPhrase, Sentence

_OWNERS = {"m": "他的", "f": "她的", "pl": "他们的"}
_BARE_ADJECTIVES = frozenset("小大老新")


def sentence(s: Sentence) -> str:
    """Sentence without full stop."""
    text = _clause(s.main)
    if s.report is not None:
        return f"{_phrase(s.speaker)}{s.report['zh']}{text}"
    if s.cause is not None:
        return f"{text}，{s.conjunction['zh']}{_clause(s.cause)}"
    return text


def _phrase(phrase: NounPhrase) -> str:
    if phrase.name is not None:
        return phrase.name["zh"]
    measure, noun = phrase.noun["zh"].split(" ")
    adjectives = "".join(
        a["zh"] + ("" if a["zh"] in _BARE_ADJECTIVES else "的") for a in phrase.adjectives
    )
    if phrase.determiner == "def":
        determiner = "那些" if phrase.plural else f"那{measure}"
    elif phrase.determiner == "indef":
        determiner = f"一{measure}"
    elif phrase.determiner == "num":
        determiner = phrase.number["zh"] + measure
    else:
        determiner = _OWNERS[phrase.owner]
    return determiner + adjectives + noun


def _clause(c: Clause) -> str:
    subject = _phrase(c.subject)
    if c.kind == "copula":
        return ("以前" if c.tense == "past" else "") + subject + c.predicate["zh_predicate"]
    time = "" if c.time is None else c.time["zh"]
    place = "" if c.place is None else f"在{_phrase(c.place[1])}{c.place[0]['zh']}"
    obj = "" if c.object is None else _phrase(c.object)
    before, after = _aspect(c)
    return f"{time}{subject}{before}{place}{c.verb['zh']}{after}{obj}"


def _aspect(c: Clause) -> tuple[str, str]:
    if c.tense == "present":
        return ("不" if c.negated else ""), ""
    if c.tense == "past":
        return ("没有", "") if c.negated else ("", "了")
    if c.tense == "future":
        return ("不会" if c.negated else "会"), ""
    modal = c.modal["zh"]
    if c.negated:
        return ("不可以" if modal == "必须" else f"不{modal}"), ""
    return modal, ""
