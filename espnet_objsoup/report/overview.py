# SPDX-License-Identifier: Apache-2.0
"""Sections of tables: what the runs are, what they reached, how they were configured."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import yaml

from espnet_objsoup.objectives import LevelSpec
from espnet_objsoup.report.differences import configuration_differences
from espnet_objsoup.report.figures import PanelGroup
from espnet_objsoup.report.run_data import RunData
from espnet_objsoup.report.scores import ScoreRow, mean_of, score_panels, score_rows
from espnet_objsoup.report.section import Cell, Row, Section
from espnet_objsoup.report.style import run_markers

_MOST_NAMES = 6
_UNKNOWN = "–"


def overview(runs: Sequence[RunData]) -> Section:
    """What each run is and where it stands."""
    facts: dict[str, Callable[[RunData], str]] = {
        "experiment": lambda run: run.directory.absolute().name,
        "recipe": lambda run: run.recipe,
        "objectives": lambda run: f"{len(run.objectives)}: {_some(run.objectives)}",
        "levels": lambda run: "\n".join(map(_level, run.levels)) or _UNKNOWN,
        "training": _progress,
        "layers measured": _layers,
        "best validation loss": _best_loss,
        "conflict rate": _conflict_rate,
        "steps not taken": _skipped,
        "seconds per step, whole training": _seconds,
        "WER (%), mean": lambda run: _number(mean_of(run, "asr", "wer"), ".1f"),
        "BLEU, mean": lambda run: _number(mean_of(run, "st", "bleu"), ".1f"),
    }
    section = Section(
        "overview", "Overview",
        "Conflict rate: mean over the last quarter of training. Means of scores: over languages or "
        "pairs, then over test sets.",
        wide=True,
    )  # fmt: skip
    section.columns = ["", *(run.name for run in runs)]
    section.rows = [Row(name, [Cell(find(run)) for run in runs]) for name, find in facts.items()]
    return section


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _level(level: LevelSpec) -> str:
    rules = level.weighting + _options(level.weighting_conf)
    if level.penalty:
        rules += f", penalty {level.penalty}" + _options(level.penalty_conf)
    return f"{_some(level.objectives)} ({rules})"


def _options(conf: Mapping[str, Any]) -> str:
    """Options that say something: numbers and words, not what is off or by objective."""
    shown = [
        f"{key}: {value}"
        for key, value in conf.items()
        if isinstance(value, int | float | str) and value is not False
    ]
    return f" {{{', '.join(shown)}}}" if shown else ""


def _number(value: float | None, form: str) -> str:
    return _UNKNOWN if value is None else format(value, form)


def _progress(run: RunData) -> str:
    epochs = f"epoch {run.epochs} of {run.conf.get('max_epoch')}, {run.steps} steps"
    if run.is_finished:
        return f"{epochs}, finished"
    if run.statistics and run.statistics.last_write_s:
        time = datetime.fromtimestamp(run.statistics.last_write_s, UTC)
        return f"{epochs}, last value {time:%Y-%m-%d %H:%M} UTC"
    return epochs


def _layers(run: RunData) -> str:
    if run.soup is None or not run.soup.names("soup_selected/"):
        return _UNKNOWN
    names = run.soup.names("soup_selected/")
    chosen = [name for name in names if run.soup.series[f"soup_selected/{name}"].last == 1.0]
    return f"{len(chosen)} of {len(names)}: {_some(chosen)}" if chosen else f"0 of {len(names)}"


def _best_loss(run: RunData) -> str:
    series = run.statistic("valid", "loss")
    if series is None:
        return _UNKNOWN
    best = int(np.nanargmin(series.values))
    # The curve ends with the last epoch; it may begin later than training did.
    epoch = run.epochs - len(series) + 1 + best
    return f"{series.values[best]:.4g} (epoch {epoch})"


def _conflict_rate(run: RunData) -> str:
    series = run.soup.conflict_rate("all") if run.soup else None
    return _UNKNOWN if series is None else _number(series.tail_mean(), ".2f")


def _skipped(run: RunData) -> str:
    if run.soup is None:
        return _UNKNOWN
    causes = [f"{name}: {count}" for name, count in run.soup.causes.most_common(3)]
    return str(run.soup.skipped) + (f" ({', '.join(causes)})" if causes else "")


def _seconds(run: RunData) -> str:
    for kind in ("train_epochs", "train"):
        series = run.statistic(kind, "train_time")
        if series is not None:
            return _number(series.tail_mean(1.0), ".3f")
    return _UNKNOWN


def scores(runs: Sequence[RunData]) -> Section:
    """Error rates and BLEU."""
    section = Section("scores", "Scores", wide=True)
    rows = score_rows(runs)
    for run in runs:
        if not run.scores:
            section.missing.append(
                f"{run.name}: not scored yet (no scores.json; stages 12 and 13 write it)."
            )
    if not rows:
        return section
    names = [run.name for run in runs]
    if len(runs) > 1:
        section.text = "Bold: the best of a row."
        section.legend = run_markers(names)
    panels = dict(score_panels(rows, names))
    section.groups = [PanelGroup("scores", "scores", panels, section.legend)]
    section.columns = ["", *names]
    head = ""
    for row in rows:
        title = f"{row.split}: {row.measure}"
        if title != head:
            section.rows.append(Row(title, [Cell("") for _ in runs], head=True))
            head = title
        section.rows.append(_score_row(row))
    return section


def _score_row(row: ScoreRow) -> Row:
    cells = [Cell(_number(v, ".1f"), v is not None and v == row.best) for v in row.values]
    return Row(row.name, cells, strong=row.is_mean)


def configuration(runs: Sequence[RunData]) -> Section:
    """In what the runs differ; of a single one, its soup."""
    section = Section("configuration", "Configuration", wide=True)
    if len(runs) == 1:
        shown: Mapping[str, Any] = {
            key: runs[0].conf[key] for key in ("trainer", "trainer_conf") if key in runs[0].conf
        }
        text = yaml.safe_dump(dict(shown), sort_keys=False, allow_unicode=True)
        section.code = {"The soup, from config.yaml": text}
        return section
    section.text = "Keys of config.yaml whose values differ. Places and addresses are left out."
    found = configuration_differences([run.conf for run in runs])
    if not found:
        section.missing.append("No key differs.")
        return section
    section.columns = ["key", *(run.name for run in runs)]
    section.rows = [Row(key, [Cell(value) for value in values]) for key, values in found]
    return section
