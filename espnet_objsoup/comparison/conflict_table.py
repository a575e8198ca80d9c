# SPDX-License-Identifier: Apache-2.0
"""Measured conflicts of a variant's runs, for RESULTS.md."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from espnet_objsoup.comparison.result import Result

_Mean = tuple[float | None, float | None]  # and its standard error


def table_head(columns: Sequence[str]) -> list[str]:
    """First lines of a table in Markdown."""
    return [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]


def conflict_lines(by_arm: Mapping[str, Sequence[Result]]) -> list[str]:
    """Cosines of the runs with scans, and the share of conflicts of all runs that measure."""
    lines: list[str] = []
    for arm, results in by_arm.items():
        scanned = [result for result in results if result.soup.get("scans")]
        if scanned:
            lines += _scans(arm, scanned)
    shares = {
        arm: fmean(r.soup["conflict"] for r in results)
        for arm, results in by_arm.items()
        if results and all("conflict" in r.soup for r in results)
    }
    if shares:
        words = ", ".join(f"`{arm}` {100 * share:.0f} %" for arm, share in shares.items())
        lines += [
            "Pairs of objectives with a negative cosine in the running estimate of the measured "
            f"layers, mean over refreshes and seeds (half of them where all are zero): {words}.",
            "",
        ]
    return lines


def _scans(arm: str, results: Sequence[Result]) -> list[str]:
    """Cosines of every pair and layer: mean over scans, then over seeds."""
    scans = [result.soup["scans"][1:] or result.soup["scans"] for result in results]
    layers = list(scans[0][0]["scores"])
    pairs = sorted({pair for of_seed in scans for scan in of_seed for pair in scan["cosines"]})

    def by_layer(values: Callable[[Mapping[str, Any]], Mapping[str, float | None]]) -> list[_Mean]:
        """Of what a scan has by layer."""
        return [_over_seeds([[values(s).get(x) for s in seed] for seed in scans]) for x in layers]

    table = {pair: by_layer(lambda scan, p=pair: scan["cosines"].get(p, {})) for pair in pairs}
    of_all = by_layer(lambda scan: scan["scores"])
    rows = table_head(["pair", *map(_short, layers)])
    for pair in sorted(pairs, key=lambda pair: sum(m for m, _ in table[pair] if m is not None)):
        rows.append(f"| {pair} | {' | '.join(_cell(*value) for value in table[pair])} |")
    rows.append(f"| mean over pairs | {' | '.join(_cell(*value) for value in of_all)} |")
    sure = [(m, e) for values in table.values() for m, e in values if e is not None]
    negative = sum(m < -2 * e for m, e in sure)
    positive = sum(m > 2 * e for m, e in sure)
    epochs = ", ".join(str(scan["epoch"]) for scan in scans[0])
    words = f"Cosines of the objectives' gradients in `{arm}`, mean over scans in epochs {epochs}"
    if sure:
        words += (
            f" and {len(results)} seeds, ± its standard error over seeds; of {len(sure)}, "
            f"{negative} are below zero by more than two of these, {positive} above"
        )
    return [f"{words}:", "", *rows, "", *_by_epoch(arm, results, layers)]


def _by_epoch(arm: str, results: Sequence[Result], layers: Sequence[str]) -> list[str]:
    """How the mean cosine of a layer goes in the epochs that all seeds scanned."""
    scans = [result.soup["scans"] for result in results]
    # A mean over fewer seeds would look like the others.
    common = set.intersection(*({scan["epoch"] for scan in of_seed} for of_seed in scans))
    epochs = sorted(common)
    if len(epochs) < 2:
        return []
    rows = table_head(["epoch", *map(str, epochs)])
    for layer in layers:
        by_epoch = [
            [[scan["scores"].get(layer) for scan in of_seed if scan["epoch"] == epoch]
             for of_seed in scans]
            for epoch in epochs
        ]  # fmt: skip
        cells = [_cell(*_over_seeds(of_epoch)) for of_epoch in by_epoch]
        rows.append(f"| {_short(layer)} | {' | '.join(cells)} |")
    return [f"Mean over pairs in `{arm}` by epoch:", "", *rows, ""]


def _over_seeds(values: Sequence[Sequence[float | None]]) -> _Mean:
    """Mean over seeds of the means over scans, and its standard error; None where unknown."""
    known = [[value for value in of_seed if value is not None] for of_seed in values]
    means = [fmean(of_seed) for of_seed in known if of_seed]
    if not means:
        return None, None
    return fmean(means), stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None


def _cell(mean: float | None, error: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:+.2f}" + (f" ± {error:.2f}" if error is not None else "")


def _short(layer: str) -> str:
    return layer.removeprefix("encoder.encoders.").join(["block ", ""])
