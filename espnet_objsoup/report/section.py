# SPDX-License-Identifier: Apache-2.0
"""Parts of the page, before they are HTML."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from espnet_objsoup.report.figures import PanelGroup
from espnet_objsoup.report.style import Stroke

_LONGEST_TABLE = 20


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: as shown.
        strong: the best of its row.
    """

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: of the row.
        cells: one for each run.
        strong: a row of means.
        head: a row that names the rows that follow.
    """

    name: str
    cells: list[Cell]
    strong: bool = False
    head: bool = False


@dataclass
class Section:
    """A part of the page.

    Attributes:
        anchor: in the address.
        title: heading.
        text: what is seen, in a few sentences.
        groups: panels that are shown.
        folded: summary -> panels behind it.
        legend: name -> stroke of the panels' lines.
        missing: what is not there, and why.
        columns: names of the table's columns.
        rows: of the table.
        lists: title -> items.
        code: title -> text as it is.
        wide: takes the page's whole width.
        large: panels have many rows, so that two of them fill a line.
    """

    anchor: str
    title: str
    text: str = ""
    groups: list[PanelGroup] = field(default_factory=list)
    folded: list[tuple[str, PanelGroup]] = field(default_factory=list)
    legend: Mapping[str, Stroke] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    lists: dict[str, list[str]] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    wide: bool = False
    large: bool = False

    def panel_rows(self, n_runs: int) -> list[list[PanelGroup]]:
        """Groups that stand beside each other: of one run all, of several each by itself."""
        if n_runs == 1 or self._of_one_run:
            return [self.groups]
        return [[group] for group in self.groups]

    @property
    def _of_one_run(self) -> bool:
        """Whether there are several figures and all are of the only run that has them."""
        return len(self.groups) > 1 and all(len(group.panels) == 1 for group in self.groups)

    def n_columns(self, n_runs: int) -> int:
        """Panels beside each other on a wide screen."""
        if n_runs == 1 or self._of_one_run:
            return (2 if self.large else 3) if self.wide else 1
        return min(n_runs, 3)

    def leave_out(self, run: str) -> None:
        """Say the name of a run no more, since there is no other."""

        def short(text: str) -> str:
            if text == run:
                return ""
            rest = text.removeprefix(f"{run}: ").removeprefix(f"{run}, ")
            return rest if rest == text else rest[:1].upper() + rest[1:]

        self.missing = [short(text) for text in self.missing]
        self.lists = {short(title): items for title, items in self.lists.items()}
        self.folded = [(short(title), group) for title, group in self.folded]
        for group in self.groups:
            group.panels = {short(title): panel for title, panel in group.panels.items()}

    @property
    def folds_table(self) -> bool:
        """Whether the table is so long that it is hidden at first."""
        return bool(self.groups) and len(self.rows) > _LONGEST_TABLE
