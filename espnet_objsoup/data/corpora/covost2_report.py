# SPDX-License-Identifier: Apache-2.0
"""What the preparation of CoVoST 2 says about the corpus."""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, groupby
from operator import itemgetter
from typing import Self

from espnet_objsoup.data.corpora.clip_index import ClipIndex
from espnet_objsoup.data.corpora.commonvoice import SPLITS

LEAKS = ("speakers", "sentences")


@dataclass
class Report:
    """Counts, by kind, of what was found.

    Attributes:
        repaired: what was mended or needs no mending.
        dropped: what was left out.
        noted: what is said only.
        shared: values that two splits have in common.
        shares: of what -> how many are usable (True) and not (False).
        rows: split -> rows written.
        objectives: split -> objective -> rows with its label.
    """

    repaired: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    shared: dict[str, int] = field(default_factory=dict)
    shares: dict[str, Counter[bool]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    objectives: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def merge(cls, reports: Iterable[Self]) -> Self:
        """One report of several languages."""
        merged = cls()
        for report in reports:
            merged.repaired += report.repaired
            merged.dropped += report.dropped
            merged.noted += report.noted
            merged.shares |= report.shares
        return merged

    def count(self, what: str, usable: bool) -> None:
        """Count one of `what` for `unusable()`."""
        if what not in self.shares:
            self.shares[what] = Counter()
        self.shares[what][usable] += 1

    def unusable(self, limit: float) -> list[str]:
        """Of what more than a share of `limit` is unusable, in words."""
        return [
            f"{n[False]} of {n.total()} {what} are not usable"
            for what, n in self.shares.items()
            if n[False] > limit * n.total()
        ]

    def lines(self) -> list[str]:
        """The report in words."""
        lines = []
        for label, counts in (
            ("repaired", self.repaired),
            ("left out", self.dropped),
            ("note", self.noted),
            ("in two splits", self.shared),
        ):
            lines += [f"{label}: {n} {what}" for what, n in sorted(counts.items())]
        lines += [
            f"usable: {n[True]} of {n.total()} {what}"
            for what, n in sorted(self.shares.items())
            if n[False]
        ]
        return lines


def shared_between_splits(kind: str, indexes: Sequence[ClipIndex]) -> dict[str, int]:
    """How many speakers (of all languages together) or sentences (of one language) splits share.

    Args:
        kind: one of `LEAKS`.
        indexes: of all languages.

    Returns:
        "<kind> of <split> and <split>" -> number, where there are any.
    """
    shared: Counter[str] = Counter()
    # A person may speak several languages; the same sentence in two languages is another one.
    streams = [[index.uses(kind) for index in indexes]]
    if kind == "sentences":
        streams = [[index.uses(kind)] for index in indexes]
    for group in streams:
        for _, uses in groupby(heapq.merge(*group), itemgetter(0)):
            splits = {split for _, split in uses}
            for pair in combinations([split for split in SPLITS if split in splits], 2):
                shared[f"{kind} of {pair[0]} and {pair[1]}"] += 1
    return dict(shared)
