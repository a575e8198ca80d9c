# SPDX-License-Identifier: Apache-2.0
"""Numbers over steps, and fewer of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# More than this many points of a curve are closer than the pixels of a panel.
MOST_POINTS = 300


class ReportError(ValueError):
    """What a run left cannot be read."""


def common_start(names: Sequence[str], separators: str) -> str:
    """What all names begin with, as far as a separator, which belongs to it."""
    length = 0
    for i, characters in enumerate(zip(*names, strict=False), 1):
        if len(set(characters)) > 1:
            break
        if characters[0] in separators:
            length = i
    return names[0][:length]


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        steps: (N,) float64, not falling.
        values: (N,) float64, NaN where nothing is known.
    """

    steps: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        """Number of points."""
        return len(self.steps)

    @property
    def known(self) -> bool:
        """Whether there is any value."""
        return bool(np.isfinite(self.values).any())

    @property
    def last(self) -> float | None:
        """The last value that is known."""
        finite = self.values[np.isfinite(self.values)]
        return float(finite[-1]) if len(finite) else None

    def tail_mean(self, share: float = 0.25) -> float | None:
        """Mean of the known values in the last part, at least of one."""
        finite = self.values[np.isfinite(self.values)]
        if not len(finite):
            return None
        return float(finite[-max(1, round(share * len(finite))) :].mean())

    def scaled(self, factor: float) -> "Series":
        """The same values at steps times `factor`."""
        return Series(self.steps * factor, self.values)

    def thinned(self, most: int = MOST_POINTS) -> "Series":
        """Means of at most `most` bins of neighbours; all points if there are no more than that.

        A bin lies at the mean of its steps; its value is the mean of those that are known.
        """
        if len(self) <= most:
            return self
        edges = np.linspace(0, len(self), most + 1).astype(int)[:-1]
        sizes = np.diff(np.append(edges, len(self)))
        known = np.isfinite(self.values)
        sums = np.add.reduceat(np.where(known, self.values, 0.0), edges)
        counts = np.add.reduceat(known.astype(float), edges)
        with np.errstate(invalid="ignore"):
            values = sums / np.where(counts > 0, counts, np.nan)
        return Series(np.add.reduceat(self.steps, edges) / sizes, values)
