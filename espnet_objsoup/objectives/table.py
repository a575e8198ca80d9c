# SPDX-License-Identifier: Apache-2.0
"""The resolved soup as text, for the log."""

from collections.abc import Sequence

from espnet_objsoup.objectives.levels import LevelSpec
from espnet_objsoup.objectives.penalties import scheduled_coefficients
from espnet_objsoup.objectives.weighting_table import MIN_SAMPLE_SIZE, RUNNING, WEIGHTINGS


def soup_table(levels: Sequence[LevelSpec], epoch: int = 1) -> str:
    """Level, objective, weighting, penalty and coefficient, a row per objective.

    Args:
        levels: top first.
        epoch: for which scheduled coefficients are shown, from 1.
    """
    coefficients = level_coefficients(levels, epoch)
    head = ("level", "objective", "weighting", "penalty", f"coefficient (epoch {epoch})")
    rows = [head]
    for number, level in enumerate(levels, start=1):
        value = coefficients[number - 1]
        shown = "from barrier" if value is None else f"{value:.4g}"
        rows += [
            (str(number), objective, _method(level.weighting, level, objective),
             level.penalty or "-", shown)
            for objective in level.objectives
        ]  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def waiting_note(levels: Sequence[LevelSpec], weights_interval: int) -> str:
    """When what needs a good running estimate begins to act; empty if nothing does.

    Args:
        levels: top first.
        weights_interval: steps between two refreshes.
    """
    names = [
        level.weighting
        for level in levels
        if len(level.objectives) > 1 and WEIGHTINGS[level.weighting].needs == RUNNING
    ]
    names += ["barrier" for level in levels if level.penalty == "barrier"]
    if not names:
        return ""
    refreshes = int(MIN_SAMPLE_SIZE)
    return (
        f"{', '.join(dict.fromkeys(names))}: first used when every pair of objectives is known "
        f"from {refreshes} refreshes, not before step {refreshes * weights_interval}"
    )


def level_coefficients(levels: Sequence[LevelSpec], epoch: int) -> tuple[float | None, ...]:
    """Coefficient of every level in an epoch (from 1), None where a barrier decides."""
    if any(level.penalty == "barrier" for level in levels):
        return (1.0, *(None for _ in levels[1:]))
    return scheduled_coefficients(
        [(str(level.penalty), level.penalty_conf) for level in levels[1:]], epoch - 1
    )


def _method(name: str, level: LevelSpec, objective: str) -> str:
    weights = level.weighting_conf.get("weights")
    return f"{name} {weights[objective]:g}" if name == "static" and weights else name
