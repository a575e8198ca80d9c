# SPDX-License-Identifier: Apache-2.0
"""Draws docs/images/conflict.svg: two gradients in conflict, and what a level's coefficient does.

    python tools/figures/concepts.py [--out docs/images]

The arrows are computed, not drawn by hand. The background is transparent and the ink follows the
reader's colour scheme.
"""

from pathlib import Path
from typing import Any

import numpy as np
from ink import INK, save, script

FIRST, SECOND = np.array([3.0, 0.3]), np.array([-0.9, 0.95])
COLOURS = ("#2f7ed8", "#d8812f", "#3aa655", "#8a63d2")


def least_norm(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The shortest convex combination of two vectors."""
    weight = np.clip(b @ (b - a) / ((a - b) @ (a - b)), 0.0, 1.0)
    return weight * a + (1.0 - weight) * b


def arrow(axes: Any, end: np.ndarray, colour: str, text: str, offset: tuple[float, float]) -> None:
    """An arrow from the origin with a word at its tip."""
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, (0.0, 0.0), arrowprops=style)
    x, y = end + np.array(offset)
    axes.text(x, y, text, color=colour, size=9, ha="center", va="center")


def shade_rising(axes: Any, gradient: np.ndarray, colour: str) -> None:
    """Directions along which a loss rises, for a step against the direction."""
    across = np.array([gradient[1], -gradient[0]]) / np.linalg.norm(gradient)
    away = -gradient / np.linalg.norm(gradient)
    corners = [9 * across, 9 * across + 9 * away, -9 * across + 9 * away, -9 * across]
    axes.fill(*zip(*corners, strict=True), color=colour, alpha=0.10, linewidth=0)


def draw_conflict(axes: Any) -> None:
    """Two gradients, their mean and their shortest combination."""
    shade_rising(axes, SECOND, COLOURS[1])
    mean, shortest = (FIRST + SECOND) / 2, least_norm(FIRST, SECOND)
    arrow(axes, FIRST, COLOURS[0], "gradient of asr/en", (-0.15, 0.28))
    arrow(axes, SECOND, COLOURS[1], "gradient of asr/fr", (-0.1, 0.22))
    arrow(axes, mean, INK, "mean", (0.38, 0.1))
    arrow(axes, shortest, COLOURS[2], "least norm", (0.1, 0.26))
    axes.text(2.05, -0.75, "shaded: asr/fr gets worse", color=COLOURS[1], size=9, ha="center")
    axes.set_title("one level: the mean forgets the weaker objective", color=INK, size=10)


def draw_levels(axes: Any) -> None:
    """A top level, and a second one whose coefficient grows."""
    top, lower = np.array([2.2, 0.35]), np.array([-0.5, 1.3])
    arrow(axes, top, COLOURS[0], "v1, top level", (0.35, -0.22))
    arrow(axes, lower, COLOURS[1], "v2, lower level", (-0.15, 0.22))
    for c, alpha in ((0.1, 0.45), (0.5, 0.7), (1.5, 1.0)):
        end = top + c * lower
        style = {"arrowstyle": "-|>", "color": COLOURS[3], "linewidth": 1.8, "alpha": alpha}
        axes.annotate("", end, (0.0, 0.0), arrowprops={**style, "shrinkA": 0, "shrinkB": 0})
        axes.text(end[0] + 0.4, end[1] + 0.08, f"c = {c:g}", color=COLOURS[3], size=9, ha="center")
    axes.set_title("two levels: direction = v1 + c v2", color=INK, size=10)


def draw(path: Path) -> None:
    """Write the figure."""
    from matplotlib import pyplot as plt

    figure, both = plt.subplots(1, 2, figsize=(9.2, 3.6))
    for axes, part in zip(both, (draw_conflict, draw_levels), strict=True):
        part(axes)
        axes.set(xlim=(-1.6, 3.6), ylim=(-1.1, 2.6), aspect="equal")
        axes.axis("off")
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.9, wspace=0.02)
    save(figure, path)


if __name__ == "__main__":
    script(__doc__, {"conflict": draw})
