# SPDX-License-Identifier: Apache-2.0
"""Maps of a scan: layer by pair, objective by objective, layer by epoch."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from espnet_objsoup.report.series import common_start
from espnet_objsoup.report.soup_history import ScanRecord
from espnet_objsoup.report.style import DIVERGING, FAINT, INK, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

MOST_PAIRS = 40
_MOST_HOVER_CELLS = 420  # a hover text costs a hundred bytes
_MOST_VECTOR_CELLS = 1000
_MOST_NUMBERS = 180
_MOST_EPOCHS = 60
_UNKNOWN = "#8C8C8C55"


def short_layers(layers: Sequence[str]) -> tuple[list[str], str]:
    """Names of layers without what all begin with, and what that is."""
    start = common_start(layers, ".") if len(layers) > 1 else ""
    return [name[len(start) :] for name in layers], start


def worst_pairs(scans: Sequence[ScanRecord], most: int = MOST_PAIRS) -> list[tuple[int, int]]:
    """Pairs of objectives in the order of their names; of too many, those most in conflict."""
    pairs = list(combinations(range(len(scans[-1].objectives)), 2))
    if len(pairs) <= most:
        return pairs
    least = _quiet(np.nanmin, np.stack([scan.cosines for scan in scans]), axis=(0, 1))
    values = np.array([least[pair] for pair in pairs])
    order = np.argsort(np.where(np.isnan(values), np.inf, values), kind="stable")[:most]
    return [pairs[i] for i in order]


def chosen_scans(scans: Sequence[ScanRecord], most: int) -> list[ScanRecord]:
    """At most so many scans, evenly spaced, with the first and the last."""
    if len(scans) <= most:
        return list(scans)
    if most == 1:
        return [scans[-1]]
    return [scans[round(i)] for i in np.linspace(0, len(scans) - 1, most)]


@dataclass
class CosineMap:
    """A map of cosines from -1 to 1.

    Attributes:
        values: (R, C), NaN where nothing is known.
        rows: R names.
        columns: C names.
        x_label: what columns are.
        marked: (R, C) bool, cells of selected layers; None: none.
        details: lets numbers be written into the cells and hover texts be added.
    """

    values: np.ndarray
    rows: list[str]
    columns: list[str]
    x_label: str
    marked: np.ndarray | None = None
    details: bool = True
    titles: dict[str, str] = field(default_factory=dict)

    @property
    def height_in(self) -> float:
        """Height that the map needs, in inches."""
        return 1.15 + max(0.105 * len(self.rows), 0.17 * min(len(self.rows), 8))

    def draw(self, axes: "Axes") -> None:
        """Draw into axes; hover texts are left in `titles`."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.patches import Rectangle

        n_rows, n_columns = self.values.shape
        cells = n_rows * n_columns
        background = Rectangle((-0.5, -0.5), n_columns, n_rows, facecolor=_UNKNOWN, zorder=0)
        axes.add_patch(background)
        colours = ScalarMappable(Normalize(-1.0, 1.0), DIVERGING)
        if self.details and cells <= _MOST_HOVER_CELLS:
            self._draw_cells(axes, colours)
        else:
            edges = (np.arange(n + 1) - 0.5 for n in (n_columns, n_rows))
            axes.pcolormesh(
                *edges, np.ma.masked_invalid(self.values),
                cmap=colours.cmap, norm=colours.norm, rasterized=cells > _MOST_VECTOR_CELLS,
            )  # fmt: skip
        if self.details and cells <= _MOST_NUMBERS and n_columns <= 12:
            self._write_numbers(axes)
        self._mark(axes)
        self._label(axes)
        bar = axes.figure.colorbar(
            colours, ax=axes, aspect=30, pad=0.02, ticks=[-1, -0.5, 0, 0.5, 1]
        )
        bar.set_label("cosine", fontsize=7.5)
        bar.ax.tick_params(labelsize=6.5)
        bar.outline.set_edgecolor(FAINT)

    def _draw_cells(self, axes: "Axes", colours: "ScalarMappable") -> None:
        """A cell at a time, with a hover text each."""
        from matplotlib.patches import Rectangle

        for (row, column), value in np.ndenumerate(self.values):
            gid = f"hover-{row}-{column}"
            colour = "none" if np.isnan(value) else colours.to_rgba(value)
            cell = Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, gid=gid)
            axes.add_patch(cell)
            known = "too little data" if np.isnan(value) else f"{value:+.3f}"
            self.titles[gid] = f"{self.rows[row]}, {self.columns[column]}: {known}"

    def _label(self, axes: "Axes") -> None:
        n_rows, n_columns = self.values.shape
        rows = [shortened(name, 36) for name in self.rows]
        columns = [shortened(name, 16) for name in self.columns]
        axes.set_yticks(range(n_rows), rows, fontsize=6 if n_rows > 12 else 7.5)
        upright = max(map(len, columns), default=0) * n_columns > 64
        every = 1 if upright else max(1, -(-n_columns // 30))
        axes.set_xticks(
            range(0, n_columns, every), columns[::every],
            fontsize=6 if n_columns > 14 else 7.5, rotation=90 if upright else 0,
        )  # fmt: skip
        axes.set_xlim(-0.5, n_columns - 0.5)
        axes.set_ylim(n_rows - 0.5, -0.5)
        axes.set_xlabel(self.x_label)
        axes.grid(False)
        axes.tick_params(length=0)

    def _write_numbers(self, axes: "Axes") -> None:
        for (row, column), value in np.ndenumerate(self.values):
            if not np.isnan(value):
                text = f"{value:.2f}".replace("-0.00", "0.00").replace("0.", ".", 1)
                text = text.replace("-", "−")
                ink = "#ffffff" if abs(value) > 0.6 else "#202020"
                place = {"ha": "center", "va": "center"}
                axes.text(column, row, text, fontsize=6.2, color=ink, **place)

    def _mark(self, axes: "Axes") -> None:
        """Frame runs of marked cells in a column, with a triangle above whole columns."""
        from matplotlib.patches import Rectangle

        if self.marked is None:
            return
        for column in range(self.marked.shape[1]):
            rows = np.flatnonzero(self.marked[:, column])
            whole = len(rows) == len(self.marked)
            if whole:
                frames = [(0, len(rows))]
                axes.plot(
                    column, -0.5, marker="v", color=INK, markersize=4.5, clip_on=False,
                    markeredgewidth=0, zorder=5, transform=axes.transData + _above(axes),
                )  # fmt: skip
            else:
                frames = [(row, 1) for row in rows]
            for row, height in frames:
                axes.add_patch(
                    Rectangle(
                        (column - 0.5, row - 0.5), 1, height,
                        fill=False, edgecolor="#111111", linewidth=1.3, clip_on=False, zorder=4,
                    )
                )  # fmt: skip


def _above(axes: "Axes") -> object:
    from matplotlib.transforms import ScaledTranslation

    return ScaledTranslation(0, 4 / 72, axes.figure.dpi_scale_trans)


def pair_map(scan: ScanRecord, pairs: Sequence[tuple[int, int]], details: bool) -> CosineMap:
    """Pairs of objectives by layers, selected layers marked."""
    layers, start = short_layers(scan.layers)
    values = np.array([scan.cosines[:, i, j] for i, j in pairs])
    selected = np.array([name in scan.selected for name in scan.layers])
    rows = [f"{scan.objectives[i]} · {scan.objectives[j]}" for i, j in pairs]
    label = f"layer ({start}…)" if start else "layer"
    marked = np.broadcast_to(selected, values.shape)
    return CosineMap(values, rows, layers, label, marked, details)


def objective_map(scan: ScanRecord, details: bool) -> CosineMap:
    """Objectives by objectives, mean over layers."""
    names = scan.objectives
    values = _quiet(np.nanmean, scan.cosines, axis=0)
    return CosineMap(values, names, names, "objective", None, details)


def layer_map(scans: Sequence[ScanRecord]) -> CosineMap:
    """Layers by scans, mean over pairs; layers selected by the scan marked."""
    shown = chosen_scans(scans, _MOST_EPOCHS)
    layers, start = short_layers(shown[-1].layers)
    values = np.stack([scan.scores for scan in shown], axis=1)
    marked = np.array([[name in scan.selected for scan in shown] for name in shown[-1].layers])
    epochs = [str(scan.epoch) for scan in shown]
    rows = [f"{'layer ' if start else ''}{layer}" for layer in layers]
    return CosineMap(values, rows, epochs, "epoch of the scan", marked)


def _quiet(function: object, values: np.ndarray, axis: object) -> np.ndarray:
    """NumPy's function that warns where there are only NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return function(values, axis=axis)
