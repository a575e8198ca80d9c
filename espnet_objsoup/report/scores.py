# SPDX-License-Identifier: Apache-2.0
"""Error rates and BLEU of several runs, as rows and as a panel of dots."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from espnet_objsoup.report.run_data import RunData
from espnet_objsoup.report.style import INK, run_markers, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOWER_IS_BETTER = {"WER (%)": True, "CER (%)": True, "BLEU": False}


@dataclass(frozen=True)
class ScoreRow:
    """A measure of all runs.

    Attributes:
        split: test set.
        name: such as `asr/fr`, `asr_ctc/mean`.
        measure: a key of `LOWER_IS_BETTER`.
        values: of every run, None where it has none.
    """

    split: str
    name: str
    measure: str
    values: list[float | None]

    @property
    def is_mean(self) -> bool:
        """Whether it is a mean over languages or pairs."""
        return self.name.endswith("/mean")

    @property
    def best(self) -> float | None:
        """The best value where several runs have one."""
        known = [value for value in self.values if value is not None]
        choose = min if LOWER_IS_BETTER[self.measure] else max
        return choose(known) if len(known) > 1 else None


def score_rows(runs: Sequence[RunData]) -> list[ScoreRow]:
    """Rows of all splits, measures and languages that any run has."""
    keys: dict[tuple[str, str, str], None] = {}
    values: list[dict[tuple[str, str, str], float]] = []
    for run in runs:
        of_run = {
            (split, name, measure): value
            for split, of_split in run.scores.items()
            for name, score in of_split.items()
            for measure, value in _measures(name, score)
        }
        keys.update(dict.fromkeys(of_run))
        values.append(of_run)
    order = list(LOWER_IS_BETTER)
    ordered = sorted(
        keys,
        key=lambda key: (key[0], order.index(key[2]), key[1].split("/")[0], _mean_last(key[1])),
    )
    return [ScoreRow(*key, [of_run.get(key) for of_run in values]) for key in ordered]


def _mean_last(name: str) -> tuple[bool, str]:
    return name.endswith("/mean"), name


def _measures(name: str, score: dict) -> list[tuple[str, float]]:
    """What to show of a score: WER, or CER in languages without spaces, or BLEU."""
    if name.startswith("st"):
        found = [("BLEU", score.get("bleu"))]
    elif score.get("measure") == "cer":
        found = [("CER (%)", score.get("cer"))]
    else:
        found = [("WER (%)", score.get("wer"))]
    return [(measure, float(value)) for measure, value in found if isinstance(value, int | float)]


@dataclass
class ScorePanel:
    """Dots of one measure and split: a row for each language, a marker for each run.

    Attributes:
        rows: of the same measure.
        runs: names, in the order of the values.
    """

    rows: list[ScoreRow]
    runs: list[str]
    titles: dict[str, str] = field(default_factory=dict)

    @property
    def height_in(self) -> float:
        """Height that the panel needs, in inches."""
        return 0.75 + max(0.12, 0.17 - 0.001 * len(self.rows)) * max(len(self.rows), 3)

    def draw(self, axes: "Axes") -> None:
        """Draw into axes; hover texts are left in `titles`."""
        dots = list(run_markers(self.runs).values())
        for r, row in enumerate(self.rows):
            known = [value for value in row.values if value is not None]
            axes.plot(
                [min(known), max(known)], [r, r], color=INK, alpha=0.35, linewidth=0.8, zorder=1
            )
            for i, value in enumerate(row.values):
                if value is None:
                    continue
                gid = f"hover-{r}-{i}"
                axes.plot(
                    value, r, gid=gid, color=INK, marker=dots[i].marker, markersize=5,
                    fillstyle="full" if dots[i].filled else "none", linestyle="none",
                    clip_on=False,
                )  # fmt: skip
                self.titles[gid] = f"{self.runs[i]}, {row.name}: {value:.1f}"
        axes.set_yticks(
            range(len(self.rows)), [shortened(row.name, 24) for row in self.rows],
            fontsize=6.5 if len(self.rows) > 15 else 8,
        )  # fmt: skip
        axes.set_ylim(len(self.rows) - 0.4, -0.6)
        axes.set_xlabel(self.rows[0].measure)
        highest = max(value for row in self.rows for value in row.values if value is not None)
        axes.set_xlim(0, max(1.06 * highest, 1.0))


def score_panels(rows: Sequence[ScoreRow], runs: Sequence[str]) -> list[tuple[str, ScorePanel]]:
    """A panel for every split and measure, with a title."""
    groups: dict[tuple[str, str], list[ScoreRow]] = {}
    for row in rows:
        groups.setdefault((row.split, row.measure), []).append(row)
    return [
        (f"{split}: {measure}", ScorePanel(of_group, list(runs)))
        for (split, measure), of_group in groups.items()
    ]


def mean_of(run: RunData, prefix: str, measure: str) -> float | None:
    """Mean of a measure over languages, averaged over splits; None if it was not scored."""
    found = [
        scores[f"{prefix}/mean"][measure]
        for scores in run.scores.values()
        if isinstance(scores.get(f"{prefix}/mean", {}).get(measure), int | float)
    ]
    return float(np.mean(found)) if found else None
