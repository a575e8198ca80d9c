# SPDX-License-Identifier: Apache-2.0
"""Clips, labels and utterances of a language in a scratch file, where they are joined and sorted.

SQLite keeps them on disk, so that memory does not grow with the corpus. The file belongs to one
process at a time and is thrown away, so locks and journals, which network file systems are slow at
or lack, are off.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote

from espnet_objsoup.data.datadir import REQUIRED

# Of pages in memory; a finished index is only read in order, and all languages are read at once.
_WRITE_CACHE_KIB, _READ_CACHE_KIB = 8192, 512
_COLUMNS = ", ".join(f'"{name}"' for name in REQUIRED)
_SCHEMA = f"""
CREATE TABLE label (
    clip TEXT, target TEXT, split TEXT, translation TEXT, PRIMARY KEY (clip, target)
) WITHOUT ROWID;
CREATE TABLE clip (
    clip TEXT PRIMARY KEY, client TEXT, sentence TEXT, contradictory INTEGER
) WITHOUT ROWID;
CREATE TABLE client (client TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE utterance (
    split TEXT, utterance TEXT, {_COLUMNS}, PRIMARY KEY (split, utterance)
) WITHOUT ROWID;
CREATE TABLE use (
    kind TEXT, value TEXT, split TEXT, PRIMARY KEY (kind, value, split)
) WITHOUT ROWID;
"""


class Clip(NamedTuple):
    """What a table says of a clip; `contradictory` if its rows differ."""

    client: str
    sentence: str
    contradictory: bool


class ClipIndex:
    """Tables of a language; a context manager.

    Args:
        path: scratch file.
        new: make it, or read one that is finished.
    """

    def __init__(self, path: Path, new: bool = False) -> None:
        mode = "rwc" if new else "ro"
        # isolation_level None: one transaction, begun below, instead of one per statement.
        self._db = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?nolock=1&mode={mode}",
            uri=True,
            isolation_level=None,
        )
        cache_kib = _WRITE_CACHE_KIB if new else _READ_CACHE_KIB
        self._db.execute(f"PRAGMA cache_size = -{cache_kib}")
        if new:
            self._db.execute("PRAGMA journal_mode = OFF")
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.executescript(_SCHEMA)
            self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        self._db.close()

    def add_label(
        self, clip: str, target: str, split: str, translation: str
    ) -> tuple[str, str] | None:
        """Add the split of a clip and, unless `target` is empty, its translation.

        Returns:
            None, or split and translation that the clip has already; nothing is added then.
        """
        row = (clip, target, split, translation)
        if self._db.execute("INSERT OR IGNORE INTO label VALUES (?, ?, ?, ?)", row).rowcount:
            return None
        query = "SELECT split, translation FROM label WHERE clip = ? AND target = ?"
        return self._db.execute(query, (clip, target)).fetchone()

    def split_conflict(self) -> tuple[str, str, str] | None:
        """A clip that targets put into two splits, and these; None if there is none."""
        return self._db.execute(
            "SELECT clip, min(split), max(split) FROM label GROUP BY clip "
            "HAVING min(split) <> max(split) LIMIT 1"
        ).fetchone()

    def add_clip(self, clip: str, client: str, sentence: str) -> str:
        """Add a clip if it has a label.

        Returns:
            `added`, `unlabelled`, `repeated`, or `contradictory` if it was there with another
            client or sentence.
        """
        query = "SELECT client, sentence, contradictory FROM clip WHERE clip = ?"
        there = self._db.execute(query, (clip,)).fetchone()
        if there is None:
            labelled = self._db.execute("SELECT 1 FROM label WHERE clip = ? LIMIT 1", (clip,))
            if labelled.fetchone() is None:
                return "unlabelled"
            self._db.execute("INSERT INTO clip VALUES (?, ?, ?, 0)", (clip, client, sentence))
            self._db.execute("INSERT OR IGNORE INTO client VALUES (?)", (client,))
            return "added"
        if there[:2] == (client, sentence):
            return "repeated"
        self._db.execute("UPDATE clip SET contradictory = 1 WHERE clip = ?", (clip,))
        return "contradictory"

    def ambiguous_prefixes(self, length: int) -> set[str]:
        """Beginnings that different clients have in common."""
        query = "SELECT substr(client, 1, ?) FROM client GROUP BY 1 HAVING count(*) > 1"
        return {prefix for (prefix,) in self._db.execute(query, (length,))}

    def labelled_clips(self) -> Iterator[tuple[str, str, Clip | None, dict[str, str]]]:
        """Every clip with a label.

        Yields:
            Name, split, what a table says of the clip (None if it is in none), and target ->
            translation, possibly empty.
        """
        rows = self._db.execute(
            "SELECT label.clip, split, target, translation, client, sentence, contradictory "
            "FROM label LEFT JOIN clip ON clip.clip = label.clip ORDER BY label.clip, target"
        )
        for clip, group in groupby(rows, itemgetter(0)):
            labels = list(group)
            _, split, _, _, client, sentence, contradictory = labels[0]
            found = None if client is None else Clip(client, sentence, bool(contradictory))
            yield clip, split, found, {row[2]: row[3] for row in labels if row[2]}

    def add_utterance(self, split: str, utterance: str, row: Mapping[str, str]) -> bool:
        """Add a row of a data directory; False if the id is there already."""
        values = (split, utterance, *(row[name] for name in REQUIRED))
        places = ", ".join("?" * len(values))
        query = f"INSERT OR IGNORE INTO utterance VALUES ({places})"
        return bool(self._db.execute(query, values).rowcount)

    def utterances(self, split: str) -> Iterator[tuple[str, dict[str, str]]]:
        """Ids, bytewise sorted, and rows of a split."""
        select = " ".join(("SELECT utterance,", _COLUMNS, "FROM utterance"))
        query = f"{select} WHERE split = ? ORDER BY utterance"
        for utterance, *values in self._db.execute(query, (split,)):
            yield utterance, dict(zip(REQUIRED, values, strict=True))

    def add_use(self, kind: str, value: str, split: str) -> None:
        """Note that a split has a value: a client or a sentence."""
        self._db.execute("INSERT OR IGNORE INTO use VALUES (?, ?, ?)", (kind, value, split))

    def uses(self, kind: str) -> Iterator[tuple[str, str]]:
        """Values and splits, sorted."""
        return self._db.execute(
            "SELECT value, split FROM use WHERE kind = ? ORDER BY value, split", (kind,)
        )
