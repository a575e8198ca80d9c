# SPDX-License-Identifier: Apache-2.0
"""Sections with curves over steps: losses, weights, coefficients, conflicts, norms, times."""

from collections.abc import Mapping, Sequence

import numpy as np

from espnet_objsoup.report.curves import Curve, CurvePanel, common_scale, curves_of
from espnet_objsoup.report.figures import PanelGroup
from espnet_objsoup.report.missing import why_no_soup
from espnet_objsoup.report.run_data import RunData
from espnet_objsoup.report.section import Cell, Row, Section
from espnet_objsoup.report.series import Series
from espnet_objsoup.report.style import COLOURS, DASHES, INK, Stroke

Strokes = Mapping[str, Stroke]
_NORMS = "soup_grad_norm/"
_MOST_MARKS = 40
_GREY = COLOURS[-1]
# Levels and parts of a step are no objectives, so that they have no colour.
_PLAIN = [Stroke(colour, dash) for colour in (INK, _GREY) for dash in DASHES]
_TIMES = {
    "whole step": "train_time",
    "forward": "forward_time",
    "backward": "backward_time",
    "update": "optim_step_time",
    "waiting for data": "iter_time",
}


def _section(
    section: Section,
    runs: Sequence[RunData],
    panels: Mapping[str, CurvePanel],
    strokes: Strokes,
    **scale: object,
) -> Section:
    """Fill a section with panels of the same scale and their legend."""
    shown = {name: panel for name, panel in panels.items() if panel.curves}
    common_scale(list(shown.values()), **scale)
    used = {curve.name for panel in shown.values() if not panel.is_map for curve in panel.curves}
    section.legend = {name: stroke for name, stroke in strokes.items() if name in used}
    if shown:
        group = PanelGroup(section.anchor, section.title, shown, section.legend)
        section.groups.append(group)
    section.wide = len(runs) > 1 or not shown
    return section


def losses(runs: Sequence[RunData], strokes: Strokes) -> Section:
    """Losses in training and validation."""
    section = Section(
        "losses", "Losses",
        "Faint: training, means over log_interval batches. Dots: validation, once per epoch.",
    )  # fmt: skip
    panels = {}
    for run in runs:
        valid = curves_of(run.objectives, strokes, lambda name, run=run: run.loss(name, "valid"))
        train = curves_of(run.objectives, strokes, lambda name, run=run: run.loss(name, "train"))
        for curve in valid:
            curve.marked = True
        for curve in train:
            curve.faint = bool(valid)
        panels[run.name] = CurvePanel(train + valid, "loss (nats per token)")
        if run.statistics is None:
            section.missing.append(
                f"{run.name}: no statistics of TensorBoard (use_tensorboard: false, or no "
                "log_interval has passed yet), so validation is not shown"
                + ("; curves are losses of the batches that refreshes saw." if train else ".")
            )
        elif not valid:
            section.missing.append(f"{run.name}: no validation yet; it follows the first epoch.")
        if any(name.endswith(("/ctc", "/att", "/transducer")) for name in run.objectives):
            panels[run.name].y_label = "loss (ESPnet's scale)"
    if any(panel.is_map for panel in panels.values()):
        section.text = "A row for each objective: validation, once per epoch; training before that."
    return _section(section, runs, panels, strokes)


def _soup_section(
    section: Section,
    runs: Sequence[RunData],
    prefix: str,
    strokes: Strokes,
    y_label: str,
    **scale: object,
) -> Section:
    """A section of the curves `prefix + name` of `soup.jsonl`."""
    panels = {}
    for run in runs:
        curves = curves_of(
            list(strokes), strokes, lambda name, run=run: run.soup_series(prefix + name)
        )
        if not curves:
            section.missing.append(f"{run.name}: {why_no_soup(run)}")
        elif _constant(curves):
            value = curves[0].series.last
            section.missing.append(f"{run.name}: {value:g} for every objective, at all times.")
            curves = []
        panels[run.name] = CurvePanel(curves, y_label)
        if prefix == _NORMS:
            _mark_selections(section, panels[run.name], run)
    return _section(section, runs, panels, strokes, **scale)


def _mark_selections(section: Section, panel: CurvePanel, run: RunData) -> None:
    """Mark where estimates begin anew, and say so once."""
    panel.marks = run.soup.selection_changes() if run.soup and panel.curves else []
    if len(panel.marks) > _MOST_MARKS:
        section.missing.append(
            f"{run.name}: other layers were selected {len(panel.marks)} times, which is not marked."
        )
        panel.marks = []
    note = " Dotted upright line: other layers were selected, so the estimate began anew."
    if panel.marks and not section.text.endswith(note):
        section.text += note


def _constant(curves: Sequence[Curve]) -> bool:
    """Whether there is but one value."""
    values = np.concatenate([curve.series.values for curve in curves])
    values = values[np.isfinite(values)]
    return len(values) > len(curves) and bool((values == values[0]).all())


def weights(runs: Sequence[RunData], strokes: Strokes) -> Section:
    """Weights within levels."""
    section = Section(
        "weights", "Weights",
        "Weight of each objective in its level; the weights of a level sum to 1 (recipe static: "
        "as configured).",
    )  # fmt: skip
    return _soup_section(section, runs, "soup_weight/", strokes, "weight", log=False)


def coefficients(runs: Sequence[RunData], strokes: Strokes) -> Section:
    """What the encoder sees."""
    section = Section(
        "coefficients", "Coefficients of objectives",
        "Penalty times weight: the factor with which an objective's gradient reaches the encoder.",
    )  # fmt: skip
    return _soup_section(section, runs, "soup_coefficient/", strokes, "penalty × weight", log=False)


def penalties(runs: Sequence[RunData]) -> Section:
    """Coefficients of levels."""
    section = Section(
        "penalties", "Penalties of levels",
        "Coefficient of each level; 0 means that the level does not train the encoder.",
    )  # fmt: skip
    panels, strokes = {}, {}
    for run in runs:
        numbers = run.soup.names("soup_level_coefficient/") if run.soup else []
        if len(numbers) == 1:
            section.missing.append(f"{run.name}: one level, whose coefficient is 1.")
        elif not numbers:
            section.missing.append(f"{run.name}: {why_no_soup(run)}")
        curves = []
        for i, number in enumerate(numbers if len(numbers) > 1 else []):
            series = run.soup_series(f"soup_level_coefficient/{number}")
            if series is not None:
                name = f"level {number}"
                strokes[name] = _PLAIN[i % len(_PLAIN)]
                curves.append(Curve(name, series, strokes[name]))
        panels[run.name] = CurvePanel(curves, "coefficient of the level")
    return _section(section, runs, panels, strokes, log=False)


def conflicts(runs: Sequence[RunData]) -> Section:
    """Share of pairs in conflict."""
    section = Section(
        "conflicts", "Conflict rate",
        "Share of pairs of objectives whose expected gradients point against each other (cosine "
        "below 0) in the layers that weights come from; running estimate.",
    )  # fmt: skip
    panels, strokes = {}, {}
    for run in runs:
        several = len(run.levels) > 1
        curves = []
        for i, name in enumerate(["all", *map(str, range(1, len(run.levels) + 1))]):
            series = run.soup.conflict_rate(name) if run.soup else None
            if series is None or (i > 0 and (not several or len(run.levels[i - 1].objectives) < 2)):
                continue
            label = "all pairs" if i == 0 else f"within level {name}"
            strokes[label] = _PLAIN[i % len(_PLAIN)]
            curves.append(Curve(label, series, strokes[label]))
        panels[run.name] = CurvePanel(curves, "share of pairs")
        _mark_selections(section, panels[run.name], run)
        if not curves:
            section.missing.append(f"{run.name}: {why_no_soup(run)}")
    return _section(section, runs, panels, strokes, limits=(-0.02, 1.02), log=False)


def gradient_norms(runs: Sequence[RunData], strokes: Strokes) -> Section:
    """Norms of expected gradients."""
    section = Section(
        "gradient_norms", "Gradient norms",
        "Norm of each objective's expected gradient in the layers that weights come from; running "
        "mean. Weightings of least norm (modo, mgda) give objectives with long gradients little.",
    )  # fmt: skip
    return _soup_section(section, runs, _NORMS, strokes, "gradient norm", log=True)


def step_times(runs: Sequence[RunData]) -> Section:
    """Seconds per optimiser step."""
    section = Section(
        "step_time", "Step time",
        "Seconds per optimiser step, means over log_interval batches; the table has means over the "
        "last epoch, or over what there is of the first.",
    )  # fmt: skip
    strokes = dict(zip(_TIMES, _PLAIN, strict=False))
    panels, table = {}, {}
    for run in runs:
        found = {name: _time(run, "train", key) for name, key in _TIMES.items()}
        panels[run.name] = CurvePanel(
            [Curve(name, s, strokes[name]) for name, s in found.items() if s is not None],
            "seconds per step",
        )
        table[run.name] = {name: _last_mean(run, key, found[name]) for name, key in _TIMES.items()}
        if not panels[run.name].curves:
            section.missing.append(f"{run.name}: no times without TensorBoard's statistics.")
    section.columns = ["seconds", *table]
    section.rows = [
        Row(name, [Cell("–" if of[name] is None else f"{of[name]:.3f}") for of in table.values()])
        for name in _TIMES
    ]
    if not any(panel.curves for panel in panels.values()):
        section.rows = []
    return _section(section, runs, panels, strokes, log=False)


def _time(run: RunData, kind: str, key: str) -> Series | None:
    series = run.statistic(kind, key)
    if series is None or key in ("train_time", "optim_step_time"):
        return series  # measured once per step
    return Series(series.steps, series.values / run.steps_per_batch)


def _last_mean(run: RunData, key: str, during: Series | None) -> float | None:
    epochs = _time(run, "train_epochs", key)
    if epochs is not None:
        return epochs.last
    return during.tail_mean(1.0) if during is not None else None
