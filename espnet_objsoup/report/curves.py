# SPDX-License-Identifier: Apache-2.0
"""Panels of curves over steps; of many objectives, a map of objectives over steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from espnet_objsoup.report.series import Series
from espnet_objsoup.report.style import FAINT, MOST_LINES, SEQUENTIAL, Stroke, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_MAP_BINS = 60  # columns of a map
_LOG_FROM = 20.0  # ratio of the largest to the smallest value from which on scales are logarithmic
X_LABEL = "optimiser steps"


@dataclass
class Curve:
    """A line of a panel.

    Attributes:
        name: of an objective, a level or a part of a step.
        series: over optimiser steps, or what the panel's x axis says.
        stroke: how it looks.
        faint: thin and pale: background of another line.
        marked: a dot at each point.
    """

    name: str
    series: Series
    stroke: Stroke
    faint: bool = False
    marked: bool = False


@dataclass
class CurvePanel:
    """One axes; panels of the same kind have the same limits in all runs.

    Attributes:
        curves: to draw.
        y_label: with unit.
        limits: of y; `common_scale` finds them.
        log: logarithmic y; likewise.
        x_end: end of the x axis.
        marks: steps to mark.
        x_label: with unit.
        shared_strokes: lines of several names look alike, and are not to be told apart.
    """

    curves: list[Curve]
    y_label: str
    limits: tuple[float, float] = (0.0, 1.0)
    log: bool = False
    x_end: float = 1.0
    marks: list[float] = field(default_factory=list)
    x_label: str = X_LABEL
    shared_strokes: bool = False
    titles: dict[str, str] = field(default_factory=dict)

    @property
    def is_map(self) -> bool:
        """Whether there are too many lines to tell apart."""
        names = {curve.name for curve in self.curves}
        return not self.shared_strokes and len(names) > MOST_LINES

    @property
    def height_in(self) -> float:
        """Height that the panel needs, in inches."""
        return 0.9 + 0.105 * len(self._rows()) if self.is_map else 2.7

    def _rows(self) -> list[Curve]:
        """Of each name the curve to show in a map: rather a marked one."""
        chosen: dict[str, Curve] = {}
        for curve in self.curves:
            if curve.name not in chosen or curve.marked:
                chosen[curve.name] = curve
        return list(chosen.values())

    def draw(self, axes: "Axes") -> None:
        """Draw into axes; hover texts are left in `titles`."""
        self._draw_map(axes) if self.is_map else self._draw_lines(axes)
        for step in self.marks:
            axes.axvline(step, color=FAINT, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        axes.set_xlabel(self.x_label)

    def _draw_lines(self, axes: "Axes") -> None:
        for i, curve in enumerate(self.curves):
            series = curve.series.thinned()
            # A single value is no line.
            dots = (curve.marked and len(series) <= 40) or len(series) == 1
            gid = f"hover-{i}"
            values = series.values
            if self.log:  # what was cut at 0 is a gap, not a line down to the floor
                values = np.where(values > 0, values, np.nan)
            axes.plot(
                series.steps, values, gid=gid,
                color=curve.stroke.colour, linestyle=curve.stroke.dash,
                alpha=0.4 if curve.faint else 1.0, linewidth=0.8 if curve.faint else 1.4,
                marker="o" if dots else None, markersize=2.6,
            )  # fmt: skip
            last = curve.series.last
            self.titles[gid] = f"{curve.name}: last {last:.4g}" if last is not None else curve.name
        axes.set_xlim(0, self.x_end)
        if self.log:
            _logarithmic(axes, *self.limits)
        axes.set_ylim(*self.limits)
        axes.set_ylabel(self.y_label)

    def _draw_map(self, axes: "Axes") -> None:
        from matplotlib.colors import LogNorm, Normalize

        rows = self._rows()
        edges = np.linspace(0, self.x_end, _MAP_BINS + 1)
        values = np.array([_binned(curve.series, edges) for curve in rows])
        low, high = self.limits
        mesh = axes.pcolormesh(
            edges, np.arange(len(rows) + 1) - 0.5, np.ma.masked_invalid(values),
            cmap=SEQUENTIAL, rasterized=True,
            norm=LogNorm(low, high, clip=True) if self.log else Normalize(low, high),
        )  # fmt: skip
        axes.set_yticks(range(len(rows)), [shortened(curve.name, 24) for curve in rows], fontsize=6)
        axes.invert_yaxis()
        axes.grid(False)
        bar = axes.figure.colorbar(mesh, ax=axes, aspect=40, pad=0.02)
        bar.set_label(self.y_label, fontsize=7.5)
        if self.log:
            _plain_numbers(bar.ax.yaxis, low, high)
        bar.outline.set_edgecolor(FAINT)


def _logarithmic(axes: "Axes", low: float, high: float) -> None:
    axes.set_yscale("log")
    _plain_numbers(axes.yaxis, low, high)


def _plain_numbers(axis: "Axis", low: float, high: float) -> None:
    """Few numbers on a logarithmic axis, not as powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    within = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=within, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _binned(series: Series, edges: np.ndarray) -> np.ndarray:
    """(bins,) means; a bin without a point has the value before it, as far as points go."""
    bins = np.clip(np.searchsorted(edges, series.steps, side="right") - 1, 0, len(edges) - 2)
    known = np.isfinite(series.values)
    counts = np.bincount(bins[known], minlength=len(edges) - 1)
    sums = np.bincount(bins[known], series.values[known], minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):
        values = sums / np.where(counts > 0, counts, np.nan)
    filled = np.flatnonzero(counts)
    if len(filled):
        # Validation has one value per epoch, at its end.
        for i in range(filled[-1] + 1):
            if counts[i] == 0:
                values[i] = values[filled[np.searchsorted(filled, i)]]
    return values


def common_scale(
    panels: Sequence[CurvePanel], limits: tuple[float, float] | None = None, log: bool | None = None
) -> None:
    """Give panels of one kind the same scale.

    Args:
        panels: of all runs.
        limits: of y, None: what the values need.
        log: logarithmic y, None: where values are far apart.
    """
    curves = [curve for panel in panels for curve in panel.curves]
    values = [curve.series.thinned().values for curve in curves]
    finite = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.zeros(0)
    positive = finite[finite > 0]
    if log is None:
        log = bool(len(finite) and finite.min() > 0 and finite.max() > _LOG_FROM * finite.min())
    log = log and len(positive) > 0
    if limits is None and log:
        limits = (positive.min() / 1.15, positive.max() * 1.15)
    if limits is None:
        low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
        margin = 0.05 * (high - low) or 0.1 * abs(high) or 0.1
        limits = (0.0 if low >= 0 and low < 0.4 * high else low - margin, high + margin)
    end = max((curve.series.steps[-1] for curve in curves if len(curve.series)), default=1.0)
    for panel in panels:
        panel.limits, panel.log, panel.x_end = limits, log, float(end) * 1.01 or 1.0


def curves_of(
    names: Sequence[str], strokes: Mapping[str, Stroke], find: Callable[[str], Series | None]
) -> list[Curve]:
    """A curve for every name of which something is known."""
    found = ((name, find(name)) for name in names)
    return [Curve(name, series, strokes[name]) for name, series in found if series is not None]
