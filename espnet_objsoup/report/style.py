# SPDX-License-Identifier: Apache-2.0
"""Colours, sizes and the SVG of all figures."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours for all kinds of colour vision, without black and yellow, which a dark or
# a white page would swallow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
DASHES = ("solid", (0, (4, 1.5)), (0, (1, 1.2)))
MOST_LINES = 2 * len(COLOURS)  # more cannot be told apart
DIVERGING = "RdBu"  # cosines from -1, red: conflict, to 1
SEQUENTIAL = "cividis"
# Of matplotlib and on the page; every second one is open.
MARKERS = {"o": "●", "s": "□", "^": "▲", "D": "◇", "v": "▼", "p": "⬠", "X": "✖", "*": "☆"}

# What is black on a white page and white on a black one has these colours until it is written.
INK, FAINT = "#010203", "#040506"
# The page sets text in its own fonts, files in one that has all of these characters.
_FONTS = (
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Zen Hei", "Noto Sans",
)  # fmt: skip
PANEL_WIDTH_IN = 4.8


@dataclass(frozen=True)
class Stroke:
    """How the lines of one name look, in every figure and run.

    Attributes:
        colour: `#rrggbb`.
        dash: for matplotlib.
        marker: a dot instead of a line, for matplotlib.
        filled: whether a dot is.
    """

    colour: str
    dash: object = "solid"
    marker: str | None = None
    filled: bool = True

    @property
    def glyph(self) -> str:
        """The dot as a character."""
        return MARKERS[self.marker] if self.marker else ""

    @property
    def css_dash(self) -> str:
        """The same for `stroke-dasharray` of a line 2 pixels wide."""
        if isinstance(self.dash, str):
            return "none"
        return " ".join(f"{2 * length:g}" for length in self.dash[1])


def strokes(names: Sequence[str]) -> dict[str, Stroke]:
    """Strokes of names, which differ for the first 21."""
    found = {}
    for i, name in enumerate(names):
        dash = DASHES[i // len(COLOURS) % len(DASHES)]
        found[name] = Stroke(COLOURS[i % len(COLOURS)], dash)
    return found


def shortened(text: str, most: int) -> str:
    """A label that leaves room for the figure: the middle of a long one is left out."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def run_markers(names: Sequence[str]) -> dict[str, Stroke]:
    """Dots of runs, which differ for the first eight."""
    found = {}
    for i, name in enumerate(names):
        marker = list(MARKERS)[i % len(MARKERS)]
        found[name] = Stroke(INK, "none", marker, filled=i % 2 == 0)
    return found


@contextmanager
def figure_style() -> Iterator[None]:
    """Settings of matplotlib for everything that is drawn inside."""
    from matplotlib import font_manager, rc_context

    installed = set(font_manager.get_font_names())
    ink = "text.color axes.edgecolor axes.labelcolor axes.titlecolor xtick.color ytick.color"
    settings = {
        **dict.fromkeys(ink.split(), INK),
        "font.family": [name for name in _FONTS if name in installed],
        "font.size": 8.5,
        "axes.titlesize": 9,
        "axes.labelsize": 8,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 7.5,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.formatter.limits": (-4, 6),
        "axes.linewidth": 0.6,
        "grid.color": FAINT,
        "grid.linewidth": 0.4,
        "grid.alpha": 0.25,
        "svg.fonttype": "none",
        "svg.hashsalt": "objsoup",  # the same figure has the same bytes
        "path.simplify": True,
        "lines.linewidth": 1.3,
    }
    with rc_context(settings):
        yield


def inline_svg(figure: "Figure", label: str, titles: Mapping[str, str]) -> str:
    """A figure for an HTML page: small, without ids that could meet another's, with hover texts.

    Args:
        figure: whose artists in question have keys of `titles` as gid.
        label: what the figure shows, for those who cannot see it.
        titles: gid -> text that is shown where the mouse rests.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"-?\d+\.\d{4,}", lambda match: f"{float(match[0]):.2f}", svg)
    for gid, text in titles.items():
        svg = svg.replace(f'<g id="{gid}">', f"<g><title>{escape(text)}</title>", 1)
    svg = svg.replace(INK, "currentColor").replace(FAINT, "currentColor")
    svg = re.sub(r">\s+<", "><", _own_ids(svg))
    head = re.search(r'viewBox="([^"]+)"', svg)[1]
    body = svg[svg.index(">") + 1 :]
    return f'<svg viewBox="{head}" role="img" aria-label="{escape(label)}">{body}'


_figures = count()


def _own_ids(svg: str) -> str:
    """Keep the ids that something refers to, under names that no other figure has."""
    number = next(_figures)
    used = dict.fromkeys(re.findall(r'(?:url\(|href=")#([\w.-]+)', svg))
    names = {old: f"f{number:x}-{i:x}" for i, old in enumerate(used)}
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", svg)
    return re.sub(r'(url\(|href=")#([\w.-]+)', lambda m: f"{m[1]}#{names[m[2]]}", svg)


def file_bytes(figure: "Figure", form: str) -> bytes:
    """A figure as a file of its own, on white: `png` (150 dots per inch) or `svg`."""
    buffer = io.BytesIO()
    options = {"metadata": {"Date": None}} if form == "svg" else {"dpi": 150}
    figure.savefig(buffer, format=form, facecolor="white", **options)
    if form == "png":
        return buffer.getvalue()
    svg = buffer.getvalue().decode("utf-8")
    return svg.replace(INK, "#1a1a1a").replace(FAINT, "#808080").encode("utf-8")
