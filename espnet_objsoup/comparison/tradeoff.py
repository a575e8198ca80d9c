# SPDX-License-Identifier: Apache-2.0
"""Recognition against translation, a dot per arm: who is better at both, who only trades."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from espnet_objsoup.comparison.result import Result
from espnet_objsoup.report.style import FAINT, INK, figure_style, file_bytes, run_markers, strokes

FIGURE = "tradeoff.svg"
_SIZE_IN = (7.0, 4.2)


def can_be_drawn(by_arm: Mapping[str, Sequence[Result]]) -> bool:
    """Whether there are several arms, with both tasks."""
    return len(by_arm) > 1 and all(
        {name.split("/")[0] for name in result.scores} >= {"asr", "st"}
        for results in by_arm.values()
        for result in results
    )


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Arms that no other one beats in both scores, by their error rate.

    Args:
        points: arm -> error rate (lower is better), BLEU (higher is better).
    """
    best, names = -1.0, []
    for name, (_, bleu) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if bleu > best:
            best = bleu
            names.append(name)
    return names


def tradeoff_svg(by_arm: Mapping[str, Sequence[Result]]) -> bytes:
    """The figure: seeds as small dots, their means as large ones, the front as a line.

    Args:
        by_arm: arm -> results, with both tasks.
    """
    from matplotlib.figure import Figure

    seeds = {arm: [(r.mean("asr"), r.mean("st")) for r in rs] for arm, rs in by_arm.items()}
    means = {arm: (fmean(x for x, _ in xy), fmean(y for _, y in xy)) for arm, xy in seeds.items()}
    best = front(means)
    with figure_style():
        figure = Figure(_SIZE_IN, layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*(means[arm] for arm in best), strict=True), color=FAINT, linewidth=0.8)
        lines, dots = strokes(list(by_arm)), run_markers(list(by_arm))
        for arm in by_arm:
            style = {"color": lines[arm].colour, "marker": dots[arm].marker, "linestyle": "none"}
            axes.plot(*zip(*seeds[arm], strict=True), markersize=3, alpha=0.5, **style)
            label = f"{arm} (front)" if arm in best else arm
            axes.plot(*means[arm], markersize=8, markeredgecolor=INK, label=label, **style)
        axes.set_xlabel("mean error rate (%), better to the left")
        axes.set_ylabel("mean BLEU, better above")
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
        return file_bytes(figure, "svg")
