# SPDX-License-Identifier: Apache-2.0
"""Draws docs/images/soup_levels.svg: how the losses of a soup reach heads and encoder.

    python tools/figures/soup.py [--out docs/images]

The background is transparent and the ink follows the reader's colour scheme.
"""

from pathlib import Path
from typing import Any

from ink import INK, save, script

LEVEL_COLOURS = ("#2f7ed8", "#d8812f", "#3aa655")
LEVELS = (
    ("level 1 (top)", "c$_1$ = 1", ("asr/de", "asr/en", "asr/fr")),
    ("level 2", "c$_2$", ("st/de-en", "st/fr-en")),
    ("level 3", "c$_3$", ("ssl",)),
)
HEADS = ("recognition head\n(CTC, decoder)", "translation head\n(decoder)", "self-supervised\nhead")


def box(axes: Any, x: float, y: float, width: float, height: float, **style: Any) -> None:
    """A box with its lower left corner at (x, y)."""
    from matplotlib.patches import FancyBboxPatch

    style = {"facecolor": "none", "edgecolor": INK, "linewidth": 1.2, **style}
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.04", **style))


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], **style: Any) -> None:
    """An arrow between two points."""
    style = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, **style}
    axes.annotate("", end, start, arrowprops=style)


def write(axes: Any, x: float, y: float, text: str, **style: Any) -> None:
    """Text centred at (x, y)."""
    axes.text(x, y, text, **{"color": INK, "ha": "center", "va": "center", "size": 9, **style})


def draw_encoder(axes: Any) -> None:
    """Front end and layers, the last two measured."""
    write(axes, 0.85, -0.35, "speech")
    arrow(axes, (0.85, -0.2), (0.85, 0.1))
    box(axes, 0.2, 0.15, 1.3, 0.45)
    write(axes, 0.85, 0.375, "front end")
    for i in range(4):
        y = 0.85 + 0.62 * i
        colour = {"facecolor": "#8a63d2", "alpha": 0.3} if i >= 2 else {}
        if colour:
            box(axes, 0.2, y, 1.3, 0.42, **colour)
        box(axes, 0.2, y, 1.3, 0.42)
        write(axes, 0.85, y + 0.21, f"layer {i + 1}" + (", measured" if i >= 2 else ""))
    write(axes, 0.85, 4.25, "encoder, shared\nby all objectives", weight="bold")
    axes.plot([0.85, 0.85, 2.65], [3.2, 3.45, 3.45], color=INK, linewidth=1.2)
    arrow(axes, (2.65, 3.46), (2.65, 2.3))


def draw_node(axes: Any) -> None:
    """The node where gradients are scaled, with what passes it in both directions."""
    from matplotlib.patches import Circle

    axes.add_patch(Circle((2.65, 2.0), 0.26, facecolor="none", edgecolor=INK, linewidth=1.4))
    write(axes, 2.65, 2.0, "x", size=12, weight="bold")
    write(axes, 2.65, 4.25, "scaling node\nof every task", weight="bold")
    gradient = {"color": "#d03050", "linewidth": 1.8, "linestyle": "--"}
    arrow(axes, (2.38, 1.95), (1.58, 1.95), **gradient)
    write(axes, 1.98, 1.65, "$\\Sigma$ c$_j$w$_k\\nabla$L$_k$", color="#d03050")


def draw_levels(axes: Any) -> None:
    """A head and the losses of every level."""
    gradient = {"color": "#d03050", "linewidth": 1.8, "linestyle": "--"}
    tops = (3.75, 2.3, 1.05)
    for (name, coefficient, members), head, colour, top in zip(
        LEVELS, HEADS, LEVEL_COLOURS, tops, strict=True
    ):
        height = 0.36 * len(members) + 0.1
        middle = top - height / 2
        box(axes, 3.65, middle - 0.32, 1.5, 0.64)
        write(axes, 4.4, middle, head)
        box(axes, 6.2, top - height, 1.9, height, facecolor=colour, alpha=0.25)
        box(axes, 6.2, top - height, 1.9, height)
        write(axes, 8.2, middle, f"{name}\n{coefficient}", ha="left")
        for i, member in enumerate(members):
            weight = f"w$_{{{member}}}$" if len(members) > 1 else "w = 1"
            write(axes, 7.15, top - 0.23 - 0.36 * i, f"{member}   {weight}")
        arrow(axes, (2.93, 2.0 + 0.1 * (middle - 2.0)), (3.6, middle + 0.12))
        arrow(axes, (3.6, middle - 0.12), (2.93, 1.92 + 0.1 * (middle - 2.0)), **gradient)
        arrow(axes, (5.2, middle + 0.12), (6.15, middle + 0.12))
        arrow(axes, (6.15, middle - 0.12), (5.2, middle - 0.12), **gradient)
    write(axes, 4.6, 4.25, "heads get the plain mean\nof their objectives", weight="bold")
    write(axes, 7.4, 4.25, "losses of the objectives,\nby level", weight="bold")


def draw_measurement(axes: Any) -> None:
    """From the measured layers to the next weights."""
    colour = {"color": "#8a63d2", "linewidth": 1.8}
    boxes = (
        (2.0, "gradients by\nutterance"),
        (4.05, "Gramian of pairs of\ndifferent utterances"),
        (6.3, "weights w in levels,\ncoefficients c of levels"),
    )
    for x, text in boxes:
        box(axes, x, -0.75, 1.75, 0.6, edgecolor="#8a63d2")
        write(axes, x + 0.875, -0.45, text)
    axes.plot([0.1, -0.1, -0.1, 0.2], [2.6, 2.6, -0.6, -0.6], color="#8a63d2", linewidth=1.8)
    arrow(axes, (0.2, -0.6), (1.95, -0.6), **colour)
    arrow(axes, (3.8, -0.45), (4.0, -0.45), **colour)
    arrow(axes, (5.85, -0.45), (6.25, -0.45), **colour)
    axes.plot([7.2, 7.2, 2.65], [-0.1, 0.2, 0.2], color="#8a63d2", linewidth=1.8)
    arrow(axes, (2.65, 0.2), (2.65, 1.7), **colour)
    write(axes, 4.4, 0.32, "from the next step on", color="#8a63d2", size=8)


def draw(path: Path) -> None:
    """The whole figure."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9.2, 5.0))
    for part in (draw_encoder, draw_node, draw_levels, draw_measurement):
        part(axes)
    axes.set(xlim=(-0.3, 9.3), ylim=(-0.9, 4.6))
    axes.axis("off")
    figure.subplots_adjust(0.0, 0.0, 1.0, 1.0)
    save(figure, path)


if __name__ == "__main__":
    script(__doc__, {"soup_levels": draw})
