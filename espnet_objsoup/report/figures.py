# SPDX-License-Identifier: Apache-2.0
"""From panels to SVG on the page and to files beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from espnet_objsoup.report.style import INK, PANEL_WIDTH_IN, Stroke, file_bytes, inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FILE_COLUMNS = 3


class Panel(Protocol):
    """What is drawn into axes of its own."""

    height_in: float
    titles: dict[str, str]

    def draw(self, axes: "Axes") -> None:
        """Draw into axes."""


@dataclass
class PanelGroup:
    """Panels of one kind, as many as runs as a rule.

    Attributes:
        name: of the files.
        label: what they show.
        panels: title -> panel.
        legend: name -> stroke.
    """

    name: str
    label: str
    panels: dict[str, Panel]
    legend: Mapping[str, Stroke] = field(default_factory=dict)

    def inline(self) -> list[tuple[str, str]]:
        """Title and SVG of every panel."""
        return [(title, self._inline(title, panel)) for title, panel in self.panels.items()]

    def _inline(self, title: str, panel: Panel) -> str:
        from matplotlib.figure import Figure

        figure = Figure((PANEL_WIDTH_IN, panel.height_in), layout="constrained")
        panel.draw(figure.subplots())
        return inline_svg(figure, ", ".join(filter(None, (self.label, title))), panel.titles)

    def files(self, forms: Sequence[str]) -> dict[str, bytes]:
        """Name -> content of files with all panels and the legend."""
        if not forms or not self.panels:
            return {}
        figure = self._whole()
        return {f"{self.name}.{form}": file_bytes(figure, form) for form in forms}

    def _whole(self) -> "Figure":
        from matplotlib.figure import Figure

        n_columns = min(len(self.panels), _FILE_COLUMNS)
        n_rows = -(-len(self.panels) // n_columns)
        height = max(panel.height_in for panel in self.panels.values()) + 0.2
        keys = -(-len(self.legend) // (4 * n_columns))
        figure = Figure(
            (PANEL_WIDTH_IN * n_columns, height * n_rows + 0.17 * keys), layout="constrained"
        )
        all_axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes, (title, panel) in zip(all_axes, self.panels.items(), strict=False):
            panel.draw(axes)
            axes.set_title(title, pad=9)
        for axes in all_axes[len(self.panels) :]:
            axes.set_axis_off()
        if self.legend:
            self._add_legend(figure, 4 * n_columns)
        return figure

    def _add_legend(self, figure: "Figure", n_columns: int) -> None:
        from matplotlib.lines import Line2D

        lines = [
            Line2D(
                [],
                [],
                color=stroke.colour,
                linestyle=stroke.dash,
                marker=stroke.marker,
                fillstyle="full" if stroke.filled else "none",
            )
            for stroke in self.legend.values()
        ]
        figure.legend(
            lines, list(self.legend), loc="outside lower center", ncols=n_columns, frameon=False,
            labelcolor=INK, fontsize=7.5, handlelength=2.6,
        )  # fmt: skip
