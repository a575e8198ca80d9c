# SPDX-License-Identifier: Apache-2.0
"""Word forms, read from the tables in `lexicon/`.

Each table has a column per language. Forms are separated by `/`:
    nouns         en singular/plural; fr de es ca "<gender> singular/plural", German weak nouns with
                  a third, oblique singular; zh "<measure word> <noun>"
    adjectives    fr es ca `<` (before the noun) or `>` (after) and m.sg/f.sg/m.pl/f.pl;
                  de the stem; zh attributive, `zh_predicate` predicative
    verbs         en base/3sg/past; fr inf/3sg/3pl/participle; de inf/3sg/participle;
                  es inf/3sg/3pl/preterite sg/preterite pl; ca inf/3sg/3pl; zh one form
    modals, reports   singular/plural
Classes: h human, a animal, o object, f food, p place.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

LEXICONS = ("small", "full")
_TABLES = (
    "nouns adjectives transitive_verbs intransitive_verbs times places numbers modals reports "
    "names causes"
).split()

Row = dict[str, str]


@dataclass(frozen=True)
class Lexicon:
    """Tables of word forms, rows as column -> form(s)."""

    nouns: tuple[Row, ...]
    adjectives: tuple[Row, ...]
    transitive_verbs: tuple[Row, ...]
    intransitive_verbs: tuple[Row, ...]
    times: tuple[Row, ...]
    places: tuple[Row, ...]
    numbers: tuple[Row, ...]
    modals: tuple[Row, ...]
    reports: tuple[Row, ...]
    names: tuple[Row, ...]
    causes: tuple[Row, ...]


@cache
def load_lexicon(name: str) -> Lexicon:
    """The `small` (about 170 English words) or the `full` lexicon (about 280).

    Raises:
        ValueError: for another name.
    """
    if name not in LEXICONS:
        raise ValueError(f"lexicon: expected one of {', '.join(LEXICONS)}, found {name!r}")
    return Lexicon(**{table: _read(table, name) for table in _TABLES})


def _read(table: str, name: str) -> tuple[Row, ...]:
    path = files(__package__) / "lexicon" / f"{table}.tsv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return tuple(row for row in rows if name == "full" or row["lexicon"] == "small")


def forms(cell: str) -> list[str]:
    """Forms of a cell."""
    return cell.split("/")
