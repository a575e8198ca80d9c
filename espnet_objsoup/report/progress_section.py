# SPDX-License-Identifier: Apache-2.0
"""Several runs in one figure: validation over updates and over time, seeds in one colour."""

import json
from collections.abc import Sequence

import numpy as np

from espnet_objsoup.report.curves import Curve, CurvePanel, common_scale
from espnet_objsoup.report.differences import settings
from espnet_objsoup.report.figures import PanelGroup
from espnet_objsoup.report.run_data import RunData
from espnet_objsoup.report.section import Section
from espnet_objsoup.report.series import Series, common_start
from espnet_objsoup.report.style import MOST_LINES, Stroke, strokes

_Y_LABEL = "mean validation loss"
_TASKS = {"asr": "Recognition", "st": "Translation", "ssl": "Self-supervision"}


def progress(runs: Sequence[RunData]) -> Section:
    """Mean losses of all runs in the same axes."""
    section = Section(
        "progress", "Runs in one figure",
        "Validation loss, mean over the objectives that all runs have, once per epoch: over "
        "updates, and over the time spent in training steps (without validation and start). Runs "
        "that differ in nothing but their seed (and init_param) have the same line. Steps that a "
        "resumed training repeats count once.",
    )  # fmt: skip
    names = [name for name in runs[0].objectives if all(name in run.objectives for run in runs)]
    tasks = dict.fromkeys(name.split("/")[0] for name in names)
    looks, section.legend = _looks(runs)
    if not names:
        section.missing.append("The runs have no objective in common.")
    minutes = {run.name: _minutes(run) for run in runs}
    over_updates, over_time = {}, {}
    for task in tasks:
        of_task = [name for name in names if name.split("/")[0] == task]
        losses = {run.name: _mean_loss(run, of_task) for run in runs}
        curves = [
            Curve(name, series, looks[name], marked=True)
            for name, series in losses.items()
            if series is not None
        ]
        title = _TASKS.get(task, task)
        shared = len(section.legend) <= MOST_LINES
        over_updates[title] = CurvePanel(curves, _Y_LABEL, shared_strokes=shared)
        over_time[title] = CurvePanel(
            [
                Curve(c.name, _at(c.series, minutes[c.name]), c.stroke, marked=True)
                for c in curves
                if minutes[c.name] is not None
            ],
            _Y_LABEL,
            x_label="minutes in training steps",
            shared_strokes=shared,
        )
        section.missing += [
            f"{name}: {title.lower()} was not validated yet."
            for name, series in losses.items()
            if series is None
        ]
    section.missing += _left_out(runs, names)
    for name, panels in (("progress_updates", over_updates), ("progress_time", over_time)):
        shown = {title: panel for title, panel in panels.items() if panel.curves}
        for panel in shown.values():
            common_scale([panel])
        if shown:
            label = f"{section.title}, {next(iter(shown.values())).x_label}"
            section.groups.append(PanelGroup(name, label, shown, section.legend))
    if not section.groups:
        section.legend = {}
    section.wide = True
    return section


def _left_out(runs: Sequence[RunData], common: Sequence[str]) -> list[str]:
    """Objectives that take no part, as not every run has them."""
    others = dict.fromkeys(n for run in runs for n in run.objectives if n not in common)
    if not others or not common:
        return []
    without = {name: [run.name for run in runs if name not in run.objectives] for name in others}
    words = "; ".join(f"{name} (not in {', '.join(of)})" for name, of in without.items())
    return [f"Left out, as not all runs have them: {words}."]


def _looks(runs: Sequence[RunData]) -> tuple[dict[str, Stroke], dict[str, Stroke]]:
    """Stroke of every run, and of every group of runs that differ in the seed alone."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        key = settings(run.conf)
        # Where each seed begins may be a file of its own.
        for name in ("seed", "init_param"):
            key.pop(name, None)
        groups.setdefault(json.dumps(key, sort_keys=True, default=str), []).append(run.name)
    names = [_group_name(members) for members in groups.values()]
    # Groups must not share a name only because their runs begin alike.
    names = [
        name if names.count(name) == 1 else ", ".join(members)
        for name, members in zip(names, groups.values(), strict=True)
    ]
    of_group = strokes(names)
    of_run = {
        run: of_group[name]
        for name, members in zip(names, groups.values(), strict=True)
        for run in members
    }
    return of_run, of_group


def _group_name(members: Sequence[str]) -> str:
    start = common_start(members, "_/").rstrip("_/")
    if len(members) == 1 or not start:
        return ", ".join(members)
    return f"{start} ({len(members)} runs)"


def _mean_loss(run: RunData, objectives: Sequence[str]) -> Series | None:
    """Mean over objectives, at the steps at which all of them were validated."""
    found = [run.loss(name, "valid") for name in objectives]
    if any(series is None or not series.known for series in found):
        return None
    points = [dict(zip(series.steps, series.values, strict=True)) for series in found]
    steps = [step for step in points[0] if all(step in other for other in points)]
    if not steps:
        return None
    values = [float(np.mean([of[step] for of in points])) for step in steps]
    return Series(np.array(steps, dtype=float), np.array(values))


def _minutes(run: RunData) -> Series | None:
    """Minutes in training steps at the end of every epoch."""
    seconds = run.statistic("train_epochs", "train_time")
    if seconds is None:
        return None
    known = np.isfinite(seconds.values)
    steps, values = seconds.steps[known], seconds.values[known]
    taken = np.diff(steps, prepend=0.0)
    return Series(steps, np.cumsum(taken * values) / 60)


def _at(losses: Series, minutes: Series) -> Series:
    """The same losses where their steps lie in time, as far as times are known."""
    known = losses.steps <= minutes.steps[-1]
    when = np.interp(losses.steps[known], [0.0, *minutes.steps], [0.0, *minutes.values])
    return Series(when, losses.values[known])
