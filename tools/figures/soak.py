# SPDX-License-Identifier: Apache-2.0
"""What a long training held over its steps, from tools/soak.py."""

from pathlib import Path
from typing import Any

# Readable on white and on black.
_INK = "#7f7f7f"
_PANELS = (
    ("memory (MiB)", ("rss_mib",)),
    ("handles, threads, children", ("handles", "threads", "children")),
    ("files (KiB)", ("log_kib", "soup_kib", "checkpoint_kib")),
)
_NAMES = {
    "rss_mib": "resident memory",
    "log_kib": "log",
    "soup_kib": "soup.jsonl",
    "checkpoint_kib": "checkpoint.pth",
    "handles": "file handles",
}
_COLOURS = ("#2ca02c", "#1f9ed1", "#e08a2c")


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the samples of `soak.json`.

    Args:
        result: with `samples`.
        path: of the SVG.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    colours = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style = {
        **dict.fromkeys(colours, _INK),
        "svg.hashsalt": "objsoup",  # the same file from the same figures
        "svg.fonttype": "none",
        "font.family": "sans-serif",
    }
    samples = result["samples"]
    steps = [sample["step"] for sample in samples]
    with matplotlib.rc_context(style):
        figure, axes = pyplot.subplots(3, sharex=True, figsize=(7.5, 6), layout="constrained")
        for panel, (title, names) in zip(axes, _PANELS, strict=True):
            for name, colour in zip(names, _COLOURS, strict=False):
                values = [sample[name] for sample in samples]
                panel.plot(steps, values, color=colour, label=_NAMES.get(name, name))
            panel.set_ylabel(title)
            panel.set_ylim(bottom=0)
            panel.grid(alpha=0.25)
            panel.legend(fontsize=8, frameon=False, loc="lower right")
        axes[-1].set_xlabel("steps")
        temporary = path.with_name(f"{path.name}.tmp")
        figure.savefig(temporary, format="svg", transparent=True, metadata={"Date": None})
        temporary.rename(path)
        pyplot.close(figure)
