# SPDX-License-Identifier: Apache-2.0
"""What is found in a corpus beside good utterances."""

from collections import Counter
from dataclasses import dataclass, field

from espnet_objsoup.data.datadir import DataDirError, listing

# Beyond these the cause is a common one.
_MAX_PROBLEMS = 50


@dataclass
class Findings:
    """Counts of what was repaired or left out, and problems that have to be solved first.

    Attributes:
        counts: what happened, in words -> how often.
        examples: the same keys -> where the first one is.
        problems: messages.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def note(self, what: str, example: object, count: int = 1) -> None:
        """Count something that does not prevent the preparation."""
        self.counts[what] += count
        self.examples.setdefault(what, str(example))

    def add(self, other: "Findings") -> None:
        """Take over what was found elsewhere."""
        self.counts += other.counts
        for what, example in other.examples.items():
            self.examples.setdefault(what, example)
        self.problems += other.problems

    def raise_if_many(self) -> None:
        """Raises DataDirError if there are more problems than anybody reads."""
        if len(self.problems) >= _MAX_PROBLEMS:
            self.raise_problems()

    def raise_problems(self) -> None:
        """Raises DataDirError, listing the problems, if there are any."""
        if self.problems:
            raise DataDirError(listing(self.problems, _MAX_PROBLEMS))

    def lines(self) -> list[str]:
        """The counts in words."""
        return [
            f"{what}: {count} (such as {self.examples[what]})"
            for what, count in sorted(self.counts.items())
        ]
