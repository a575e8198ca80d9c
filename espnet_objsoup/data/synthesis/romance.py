# SPDX-License-Identifier: Apache-2.0
"""French, Spanish and Catalan: gender, adjectives mostly after the noun, elision."""

import re

from espnet_objsoup.data.synthesis.lexicon import forms
from espnet_objsoup.data.synthesis.sentences import Clause, NounPhrase, Sentence

LANGUAGES = ("fr", "es", "ca")
_ARTICLES = {
    "fr": {"def": ("le", "la", "les", "les"), "indef": ("un", "une")},
    "es": {"def": ("el", "la", "los", "las"), "indef": ("un", "una")},
    "ca": {"def": ("el", "la", "els", "les"), "indef": ("un", "una")},
}
_BE = {
    "fr": {"present": ("est", "sont"), "past": ("était", "étaient")},
    "es": {"present": ("es", "son"), "past": ("era", "eran")},
    "ca": {"present": ("és", "són"), "past": ("era", "eren")},
}
# Catalan future stems that are not the infinitive.
_CA_STEMS = {
    "veure": "veur",
    "perdre": "perdr",
    "vendre": "vendr",
    "riure": "riur",
    "dur": "dur",
}
_FR_VOWEL = "[aàâeéèêëiîïoôœuûùüyAÀÂEÉÈÊIOÔŒU]"
_CA_VOWEL = "[aàeèéiíoòóuú]"


def sentence(s: Sentence, lang: str) -> str:
    """Sentence without capital letter and full stop."""
    text = _clause(s.main, lang)
    if s.report is not None:
        speaker = _phrase(s.speaker, lang)
        text = f"{speaker} {forms(s.report[lang])[s.speaker.plural]} {text}"
    elif s.cause is not None:
        text = f"{text} {s.conjunction[lang]} {_clause(s.cause, lang)}"
    text = re.sub(r"\s+", " ", text).strip()
    return {"fr": _elide_french, "es": _contract_spanish, "ca": _elide_catalan}[lang](text)


def _is_feminine(phrase: NounPhrase, lang: str) -> bool:
    return phrase.noun[lang].startswith("f ")


def _phrase(phrase: NounPhrase, lang: str) -> str:
    if phrase.name is not None:
        return phrase.name[lang]
    feminine = _is_feminine(phrase, lang)
    before, after = [], []
    for adjective in phrase.adjectives:
        cell = adjective[lang]
        form = forms(cell[1:])[2 * phrase.plural + feminine]
        (before if cell[0] == "<" else after).append(form)
    noun = forms(phrase.noun[lang].split(" ", 1)[1])[phrase.plural]
    return " ".join([_determiner(phrase, lang, feminine), *before, noun, *after])


def _determiner(phrase: NounPhrase, lang: str, feminine: bool) -> str:
    if phrase.determiner == "num":
        return forms(phrase.number[lang])[-1 if feminine else 0]
    if phrase.determiner == "poss":
        return _possessive(phrase, lang, feminine)
    return _ARTICLES[lang][phrase.determiner][2 * phrase.plural + feminine]


def _possessive(phrase: NounPhrase, lang: str, feminine: bool) -> str:
    if lang == "es":
        return "sus" if phrase.plural else "su"
    if lang == "fr":
        if phrase.owner == "pl":
            return "leurs" if phrase.plural else "leur"
        return "ses" if phrase.plural else "sa" if feminine else "son"
    article = _ARTICLES["ca"]["def"][2 * phrase.plural + feminine]
    owned = ("seus", "seves") if phrase.plural else ("seu", "seva")
    return f"{article} {owned[feminine]}"


def _clause(c: Clause, lang: str) -> str:
    subject = _phrase(c.subject, lang)
    if c.kind == "copula":
        be = _BE[lang][c.tense][c.subject.plural]
        feminine = _is_feminine(c.subject, lang)
        return f"{subject} {be} {forms(c.predicate[lang][1:])[2 * c.subject.plural + feminine]}"
    verb = {"fr": _french_verb, "es": _spanish_verb, "ca": _catalan_verb}[lang](c)
    obj = "" if c.object is None else _phrase(c.object, lang)
    if lang == "es" and c.object is not None and c.object.noun["class"] == "h":
        obj = f"a {obj}"  # personal a
    place = "" if c.place is None else f"{c.place[0][lang]} {_phrase(c.place[1], lang)}"
    if c.time is None:
        return f"{subject} {verb} {obj} {place}"
    if lang == "es" and c.kind == "intransitive":
        return f"{c.time['es']} {verb} {subject} {place}"  # the verb comes first after an adverb
    return f"{c.time[lang]}, {subject} {verb} {obj} {place}"


def _french_verb(c: Clause) -> str:
    infinitive, singular, plural, participle = forms(c.verb["fr"])
    many = c.subject.plural
    finite, rest = {
        "present": (plural if many else singular, ""),
        "past": ("ont" if many else "a", participle),
        "future": ("vont" if many else "va", infinitive),
        "modal": (forms(c.modal["fr"])[many], infinitive),
    }[c.tense]
    return f"ne {finite} pas {rest}" if c.negated else f"{finite} {rest}"


def _spanish_verb(c: Clause) -> str:
    infinitive, singular, plural, past, past_plural = forms(c.verb["es"])
    many = c.subject.plural
    verb = {
        "present": plural if many else singular,
        "past": past_plural if many else past,
        "future": f"{'van' if many else 'va'} a {infinitive}",
        "modal": f"{forms(c.modal['es'])[many]} {infinitive}",
    }[c.tense]
    return f"no {verb}" if c.negated else verb


def _catalan_verb(c: Clause) -> str:
    infinitive, singular, plural = forms(c.verb["ca"])
    many = c.subject.plural
    verb = {
        "present": plural if many else singular,
        "past": f"{'van' if many else 'va'} {infinitive}",
        "future": _CA_STEMS.get(infinitive, infinitive) + ("an" if many else "à"),
        "modal": f"{forms(c.modal['ca'])[many]} {infinitive}",
    }[c.tense]
    return f"no {verb}" if c.negated else verb


def _elide_french(text: str) -> str:
    for full, short in (("vieux", "vieil"), ("beau", "bel"), ("nouveau", "nouvel")):
        text = re.sub(rf"\b(un|le|son|leur) {full} (?=h?{_FR_VOWEL})", rf"\1 {short} ", text)
    text = re.sub(rf"\bsa (?=h?{_FR_VOWEL})", "son ", text)
    text = re.sub(rf"\bde le (?!h?{_FR_VOWEL})", "du ", text)
    text = re.sub(r"\bde les ", "des ", text)
    text = re.sub(rf"\bl[ea] (?=h?{_FR_VOWEL})", "l'", text)
    text = re.sub(rf"\b([nd])e (?=h?{_FR_VOWEL})", r"\1'", text)
    return re.sub(rf"\bque (?={_FR_VOWEL})", "qu'", text)


def _contract_spanish(text: str) -> str:
    text = re.sub(r"\bde el\b", "del", text)
    text = re.sub(r"\ba el\b", "al", text)
    return re.sub(r"\b(un|el|su|una|la) (\w+) grande\b", r"\1 gran \2", text)


def _elide_catalan(text: str) -> str:
    determiners = "un|el|una|la|els|les|dos|dues|tres|quatre|cinc|sis|set"
    text = re.sub(
        rf"\b({determiners}) ((?:se[uv]\w* )?)([\w·]+) (gran|grans)\b", r"\1 \2\4 \3", text
    )
    text = re.sub(rf"\bel (?=h?{_CA_VOWEL})", "l'", text)
    text = re.sub(r"\bla (?=h?[aàeèéoòó])", "l'", text)
    for preposition in ("de", "a"):
        text = re.sub(rf"\b{preposition} el(s?)\b", rf"{preposition}l\1", text)
    return re.sub(rf"\bde (?=h?{_CA_VOWEL})", "d'", text)
