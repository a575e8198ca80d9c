# SPDX-License-Identifier: Apache-2.0
"""The page of one or several runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from espnet_objsoup import __version__
from espnet_objsoup.report import curve_sections as curves
from espnet_objsoup.report.cosine_section import cosines
from espnet_objsoup.report.overview import configuration, overview, scores
from espnet_objsoup.report.progress_section import progress
from espnet_objsoup.report.run_data import RunData, name_runs, read_run
from espnet_objsoup.report.section import Section
from espnet_objsoup.report.series import MOST_POINTS
from espnet_objsoup.report.style import INK, figure_style, strokes

TEMPLATES = resources.files("espnet_objsoup.report") / "templates"
# Between these marks of the template stands what makes a page of --watch load itself again.
RELOAD_BEGIN, RELOAD_END = "<!-- reload -->", "<!-- /reload -->"


@dataclass
class Report:
    """A page and the files beside it.

    Attributes:
        html: the whole page.
        figures: name -> content.
    """

    html: str
    figures: dict[str, bytes] = field(default_factory=dict)

    @property
    def at_rest(self) -> str:
        """The page without reloading itself."""
        before, _, rest = self.html.partition(RELOAD_BEGIN)
        return before + rest.partition(RELOAD_END)[2] if rest else self.html


def make_report(
    directories: Sequence[Path], forms: Sequence[str] = (), reload_s: float | None = None
) -> Report:
    """Read experiments and draw them.

    Args:
        directories: of experiments.
        forms: of figures beside the page: `png`, `svg`.
        reload_s: seconds after which the page loads itself again; None: never.

    Raises:
        ReportError: if a directory is no experiment, or a file is damaged.
    """
    runs = [read_run(directory) for directory in directories]
    name_runs(runs)
    with figure_style():
        sections = make_sections(runs)
        html = _render(runs, sections, reload_s)
        groups = [group for section in sections for group in section.groups]
        groups += [group for section in sections for _, group in section.folded]
        figures = {n: content for group in groups for n, content in group.files(forms).items()}
    return Report(html, figures)


def make_sections(runs: Sequence[RunData]) -> list[Section]:
    """All sections in the order of the page."""
    of_objective = strokes(list(dict.fromkeys(name for run in runs for name in run.objectives)))
    sections = [
        overview(runs),
        scores(runs),
        *([progress(runs)] if len(runs) > 1 else []),
        curves.losses(runs, of_objective),
        curves.conflicts(runs),
        cosines(runs),
        curves.gradient_norms(runs, of_objective),
        curves.weights(runs, of_objective),
        curves.penalties(runs),
        curves.coefficients(runs, of_objective),
        curves.step_times(runs),
        configuration(runs),
    ]
    if len(runs) == 1:
        for section in sections:
            section.leave_out(runs[0].name)
    return sections


def _render(runs: Sequence[RunData], sections: Sequence[Section], reload_s: float | None) -> str:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def load(name: str) -> str:
        return (TEMPLATES / name).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(load),
        autoescape=True,  # names and texts come from data
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        title=" | ".join(run.name for run in runs),
        runs=runs,
        sections=sections,
        ink=INK,
        most_points=MOST_POINTS,
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        version=__version__,
        reload_s=reload_s,
    )
