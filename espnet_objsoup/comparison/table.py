# SPDX-License-Identifier: Apache-2.0
"""RESULTS.md of a comparison, from its JSONs alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev

from espnet_objsoup.comparison.bootstrap import N_SAMPLES
from espnet_objsoup.comparison.conflict_table import conflict_lines, table_head
from espnet_objsoup.comparison.current import VariantResults
from espnet_objsoup.comparison.plan import Comparison
from espnet_objsoup.comparison.result import Result
from espnet_objsoup.comparison.significance import (
    LEVEL,
    MIN_SEEDS,
    Difference,
    differences,
)
from espnet_objsoup.comparison.tradeoff import FIGURE, can_be_drawn

_MEASURES = {"asr": "WER", "st": "BLEU"}
_HEAD = f"""# Comparison

Made by `./compare.sh`; docs/comparison.md says what is compared and how. Mean and standard
deviation over seeds. Differences are to `REFERENCE`, in means over languages: in brackets the 95 %
interval over seeds for all arms of a group at once, and p (Dunnett's test, from {MIN_SEEDS} seeds
on); in parentheses the 95 % interval over test utterances for these models ({N_SAMPLES} resampled
test sets). `*`: p is below {LEVEL}, and the second interval leaves zero out, too. CPU: minutes of
one core for training, starts of its processes included. MB: most memory of a process.
"""


def render(variants: Iterable[VariantResults], comparison: Comparison) -> str:
    """The whole file.

    Args:
        variants: that have results, from `read_variants`.
        comparison: says what is the reference, and which arms are a family.
    """
    lines, everything = [_HEAD.replace("REFERENCE", comparison.reference)], []
    for variant in variants:
        if variant.by_arm:
            lines += _variant_lines(variant, comparison)
            everything += variant.current
        if variant.outdated:
            names = ", ".join(f"{variant.name}/{result.name}.json" for result in variant.outdated)
            lines += [f"Not in the table, being of other configurations or data: {names}.", ""]
    if not everything:
        lines += ["No run has finished.", ""]
    return "\n".join(lines + _environment(everything)).rstrip() + "\n"


def _variant_lines(variant: VariantResults, comparison: Comparison) -> list[str]:
    by_arm = variant.by_arm
    lines = [f"## {variant.name}", "", *_table(by_arm, comparison)]
    if can_be_drawn(by_arm):
        figure = f"{variant.name}/{FIGURE}"
        lines += ["", f"![WER against BLEU of every arm, with its seeds]({figure})"]
    if variant.other_data:
        names = ", ".join(result.name for result in variant.other_data)
        lines += ["", f"Of other data, and not in the table: {names}."]
    choices = [f"{r.name}: {r.choice}" for r in variant.current if r.choice]
    if choices:
        lines += ["", f"Chosen by the grid: {', '.join(choices)}."]
    return [*lines, "", *conflict_lines(by_arm)]


def _table(by_arm: Mapping[str, Sequence[Result]], comparison: Comparison) -> list[str]:
    first = next(iter(by_arm.values()))[0]
    objectives = {
        task: [name for name in first.scores if name.startswith(f"{task}/")] for task in _MEASURES
    }
    tasks = [task for task, names in objectives.items() if names]
    head = ["arm", "seeds"]
    for task in tasks:
        head += [_title(first, name) for name in objectives[task]]
        head += [f"mean {_MEASURES[task]}", f"difference of {_MEASURES[task]}"]
    head += ["epochs", "updates", "CPU", "MB"]
    compared = {task: _compare(by_arm, comparison, task) for task in tasks}
    rows = table_head(head)
    for arm, results in by_arm.items():
        cells = [f"`{arm}`", str(len(results))]
        for task in tasks:
            for name in objectives[task]:
                cells.append(_spread([result.main_score(name) for result in results]))
            cells.append(_spread([result.mean(task) for result in results]))
            cells.append(_difference(compared[task].get(arm)))
        rows.append(f"| {' | '.join([*cells, *_cost(results)])} |")
    return rows


def _title(result: Result, objective: str) -> str:
    task, _, key = objective.partition("/")
    return f"{'CER' if 'cer' in result.scores[objective] else _MEASURES[task]} {key}"


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{deviation}"


def _compare(
    by_arm: Mapping[str, Sequence[Result]], comparison: Comparison, task: str
) -> dict[str, Difference]:
    """Every group of arms is a family of its own: what is added later changes no star."""
    found: dict[str, Difference] = {}
    reference = by_arm.get(comparison.reference, [])
    for group in dict.fromkeys(arm.group for arm in comparison.arms.values()):
        family = {
            name: results
            for name, results in by_arm.items()
            if name != comparison.reference and comparison.arms[name].group == group
        }
        found |= differences(reference, family, task)
    return found


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return "-"
    value, p = f"{difference.value:+.1f}", difference.p
    utterances = "({:+.1f}, {:+.1f})".format(*difference.utterances)
    if math.isnan(p):
        return f"{value} {utterances}"
    seeds = f"[{difference.low:+.1f}, {difference.high:+.1f}]"
    shown = "p < 0.001" if p < 0.001 else f"p {p:.3f}"
    star = " *" if difference.is_significant else ""
    return f"{value} {seeds} {utterances}, {shown}{star}"


def _cost(results: Sequence[Result]) -> list[str]:
    return [
        f"{fmean(r.epochs for r in results):.0f}",
        f"{fmean(r.updates for r in results):.0f}",
        _spread([r.cpu_seconds / 60 for r in results]),
        f"{max(r.memory_mb for r in results):.0f}",
    ]


def _environment(everything: Sequence[Result]) -> list[str]:
    if not everything:
        return []
    training = sum(r.cpu_seconds for r in everything) / 60
    decoding = sum(r.decode_cpu_seconds for r in everything) / 60
    return [
        "## What it took",
        "",
        f"- runs: {len(everything)}",
        f"- processor: {training:.0f} minutes of training, {decoding:.0f} of decoding and scoring",
        *(f"- machine: {words}" for words in sorted({r.machine for r in everything})),
        f"- commits: {', '.join(sorted({r.commit for r in everything}))}",
    ]
