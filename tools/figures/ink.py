# SPDX-License-Identifier: Apache-2.0
"""What the drawings of the documentation have in common."""

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Replaced by the reader's colour; no other colour may be the same.
INK = "#010101"
# Ink in light and in dark surroundings.
_STYLE = (
    "<style>svg {color: #1f2328} @media (prefers-color-scheme: dark) {svg {color: #e6edf3}}</style>"
)


def save(figure: Any, path: Path) -> None:
    """Write a figure as SVG in the reader's ink on a transparent ground, or as PNG."""
    svg = path.suffix == ".svg"
    # Without the date the same drawing is the same file.
    metadata = {"Date": None, "Creator": None} if svg else None
    figure.savefig(path, metadata=metadata, transparent=svg)
    if svg:
        text = path.read_text(encoding="utf-8").replace(INK, "currentColor")
        text = re.sub(r"(<svg [^>]*>)", rf"\1\n {_STYLE}", text, count=1)
        path.write_text(text, encoding="utf-8")


def script(description: str, figures: Mapping[str, Callable[[Path], None]]) -> None:
    """Command line of a script that draws figures.

    Args:
        description: first line of its --help.
        figures: name of a file, without its suffix -> what draws it.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="directory")
    parser.add_argument("--suffix", default=".svg", choices=[".svg", ".png"])
    args = parser.parse_args()
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams.update({"svg.hashsalt": "objsoup", "svg.fonttype": "none"})
    args.out.mkdir(parents=True, exist_ok=True)
    for name, draw in figures.items():
        draw(args.out / f"{name}{args.suffix}")
