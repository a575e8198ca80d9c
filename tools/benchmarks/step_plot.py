# SPDX-License-Identifier: Apache-2.0
"""Cost of a step against the number of objectives, from files of step.py.

tools/venv/bin/python tools/benchmarks/step_plot.py cost.svg fast.json slow.json
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

# Readable on white and on black.
_INK = "#7f7f7f"
_STYLES = {
    "default": ("#2ca02c", "o", "-"),
    "refresh": ("#2ca02c", "s", "--"),
    "refresh, third": ("#1f9ed1", "o", "-"),
    "scan": ("#1f9ed1", "s", "--"),
    "autogram": ("#b07aa1", "^", "-"),
    "per objective": ("#e08a2c", "v", "-"),
    "reference": ("#d9534f", "o", "-"),
    "reference, all": ("#d9534f", "s", "--"),
    "mtl_backward": ("#c09f3d", "D", "-"),
}


def cost_against_objectives(results: Sequence[dict[str, Any]], path: Path, value: str) -> None:
    """Draw the ratio to a plain step of every arm that ran.

    Args:
        results: rows of the benchmark, of one size.
        path: of the SVG.
        value: key of a row: `cpu_s_ratio`, for a GPU `wall_s_ratio`, or `operations_ratio`.
    """
    style = {
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "svg.hashsalt": "objsoup",  # the same file from the same figures
        "svg.fonttype": "none",
        "font.family": "sans-serif",
    }
    with matplotlib.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(7.5, 4.5), layout="constrained")
        for arm, (colour, marker, line) in _STYLES.items():
            rows = sorted(
                (row["objectives"], row[value], row["note"])
                for row in results
                if row["arm"] == arm and value in row
            )
            if rows:
                k, ratio, notes = zip(*rows, strict=True)
                axes.plot(k, ratio, line, color=colour, marker=marker, label=notes[0])
        axes.axhline(1.0, color=_INK, linewidth=0.8, label="ESPnet's own trainer")
        axes.set_yscale("log")
        ticks = [1, 1.5, 2, 3, 5, 10, 20, 50, 100]
        top = max(axes.get_ylim()[1], 2.0)
        axes.set_yticks([t for t in ticks if t <= top], [f"{t:g}" for t in ticks if t <= top])
        axes.minorticks_off()
        axes.set_xticks(sorted({row["objectives"] for row in results}))
        axes.set_xlabel("objectives K")
        what = "operations" if value == "operations_ratio" else "time"
        axes.set_ylabel(f"{what} of a step / plain step")
        axes.grid(alpha=0.25)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        temporary = path.with_name(f"{path.name}.tmp")
        figure.savefig(temporary, format="svg", transparent=True, metadata={"Date": None})
        temporary.rename(path)
        pyplot.close(figure)


def main(argv: Sequence[str]) -> int:
    """Draw what several runs found."""
    files = [json.loads(Path(name).read_text(encoding="utf-8")) for name in argv[1:]]
    devices = {file["device"] for file in files}
    if len(devices) != 1:
        print(f"expected files of one device, found {', '.join(sorted(devices))}", file=sys.stderr)
        return 2
    rows = [row for file in files for row in file["results"]]
    small = [row for row in rows if row["arm"] != "plain" and row["size"] == "small"]
    value = "cpu_s_ratio" if devices == {"cpu"} else "wall_s_ratio"
    cost_against_objectives(small, Path(argv[0]), value)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
