# SPDX-License-Identifier: Apache-2.0
"""Measured conflicts of a variant's runs, for RESULTS.md."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from espnet_objsoup.comparison.result import Result


def conflict_lines(by_arm: Mapping[str, Sequence[Result]]) -> list[str]:
    """Cosines of the runs with scans, and the share of conflicts of all runs that measure."""
    lines: list[str] = []
    for results in by_arm.values():
        for result in results:
            if result.soup.get("scans"):
                lines += _scans(result)
    shares = {
        arm: fmean(r.soup["conflict"] for r in results)
        for arm, results in by_arm.items()
        if results and all("conflict" in r.soup for r in results)
    }
    if shares:
        words = ", ".join(f"`{arm}` {100 * share:.0f} %" for arm, share in shares.items())
        lines += [
            "Pairs of objectives with a negative cosine in the measured layers, mean over "
            f"refreshes and seeds: {words}.",
            "",
        ]
    return lines


def _scans(result: Result) -> list[str]:
    """Cosines of every pair: mean over scans, and the last one, by layer."""
    scans = result.soup["scans"]
    layers = list(scans[-1]["scores"])
    head = ["pair", *(f"{_short(layer)}: mean, last" for layer in layers)]
    rows = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    pairs = dict.fromkeys(pair for scan in scans for pair in scan["cosines"])
    for pair in sorted(pairs, key=lambda pair: _mean(scans, pair, layers)):
        cells = [_cosines([scan["cosines"].get(pair, {}).get(name) for scan in scans])
                 for name in layers]  # fmt: skip
        rows.append(f"| {pair} | {' | '.join(cells)} |")
    mean = [_cosines([scan["scores"][name] for scan in scans]) for name in layers]
    rows.append(f"| mean over pairs | {' | '.join(mean)} |")
    counted = [value for scan in scans for of in scan["cosines"].values() for value in of.values()]
    negative = sum(value < 0 for value in counted)
    epochs = ", ".join(str(scan["epoch"]) for scan in scans)
    return [
        f"Cosines of the objectives' gradients in `{result.name}`, scans in epochs {epochs}; "
        f"{negative} of {len(counted)} are negative:",
        "",
        *rows,
        "",
    ]


def _short(layer: str) -> str:
    return layer.removeprefix("encoder.encoders.").join(["block ", ""])


def _mean(scans: Sequence[Mapping[str, Any]], pair: str, layers: Sequence[str]) -> float:
    values = [scan["cosines"].get(pair, {}).get(name) for scan in scans for name in layers]
    known = [value for value in values if value is not None]
    return fmean(known) if known else 0.0


def _cosines(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{fmean(known):+.2f}, {known[-1]:+.2f}"
