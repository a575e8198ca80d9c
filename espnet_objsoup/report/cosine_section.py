# SPDX-License-Identifier: Apache-2.0
"""Section with the cosines that scans found."""

from collections.abc import Sequence

import numpy as np

from espnet_objsoup.report.cosines import (
    MOST_PAIRS,
    CosineMap,
    chosen_scans,
    layer_map,
    objective_map,
    pair_map,
    worst_pairs,
)
from espnet_objsoup.report.figures import PanelGroup
from espnet_objsoup.report.missing import why_no_scan
from espnet_objsoup.report.run_data import RunData
from espnet_objsoup.report.section import Section
from espnet_objsoup.report.soup_history import ScanRecord

_MOST_SCANS = 8
_MOST_CELLS = 10_000  # of earlier scans on the page, a hundred bytes each
_MANY_ROWS = 15
_LEAST_OBJECTIVES = 3  # of two there is one pair


def cosines(runs: Sequence[RunData]) -> Section:
    """Cosines between objectives in every layer, scan by scan."""
    section = Section(
        "cosines", "Cosines between objectives",
        "Cosine between the expected gradients of two objectives in a layer. Red: they are in "
        "conflict; blue: they agree; grey: too little data. Framed, with a triangle: layers that "
        "weights come from after the scan.",
        wide=True,
    )  # fmt: skip
    last: dict[str, CosineMap] = {}
    layers: dict[str, CosineMap] = {}
    objectives: dict[str, CosineMap] = {}
    scanned = {run.name: run.soup.scans for run in runs if run.soup and run.soup.scans}
    for run in runs:
        scans = scanned.get(run.name)
        if scans is None:
            section.missing.append(f"{run.name}: {why_no_scan(run)}")
            continue
        pairs = worst_pairs(scans)
        scan = scans[-1]
        last[f"{run.name}, by pair and layer, epoch {scan.epoch}"] = pair_map(
            scan, pairs, details=True
        )
        if len(scans) > 1:
            layers[f"{run.name}, mean over pairs, scan by scan"] = layer_map(scans)
        if len(scan.objectives) >= _LEAST_OBJECTIVES:
            objectives[f"{run.name}, mean over layers, epoch {scan.epoch}"] = objective_map(
                scan, details=True
            )
        _note_left_out(section, run.name, scan, len(pairs))
        _fold_earlier(section, run.name, scans, pairs, len(scanned))
    for name, label, panels in (
        ("cosines", "cosines by layer and pair", last),
        ("cosines_layers", "mean cosine by layer and scan", layers),
        ("cosines_objectives", "cosines by objective", objectives),
    ):
        if panels:
            section.groups.append(PanelGroup(name, label, panels))
    section.large = not objectives or any(len(map_.rows) > _MANY_ROWS for map_ in last.values())
    section.lists = {
        f"{name}: most in conflict": worst(scans[-1]) for name, scans in scanned.items()
    }
    return section


def worst(scan: ScanRecord, most: int = 5) -> list[str]:
    """Pairs and layers with the smallest cosines below 0, in words."""
    n_layers, n_objectives, _ = scan.cosines.shape
    upper = np.triu(np.ones((n_objectives, n_objectives), dtype=bool), 1)
    values = np.where(upper & np.isfinite(scan.cosines), scan.cosines, np.inf)
    found = []
    for flat in np.argsort(values, axis=None, kind="stable")[:most]:
        layer, i, j = np.unravel_index(flat, (n_layers, n_objectives, n_objectives))
        if values[layer, i, j] < 0:
            names = f"{scan.objectives[i]} · {scan.objectives[j]}"
            found.append(f"{names} in {scan.layers[layer]}: {values[layer, i, j]:+.2f}")
    return found or ["no pair has a cosine below 0"]


def _note_left_out(section: Section, name: str, scan: ScanRecord, shown: int) -> None:
    count = len(scan.objectives) * (len(scan.objectives) - 1) // 2
    if shown < count:
        section.missing.append(
            f"{name}: {shown} of {count} pairs are shown by layer, those with the smallest cosines "
            f"of any scan (at most {MOST_PAIRS}); the map of objectives has all."
        )


def _fold_earlier(
    section: Section,
    name: str,
    scans: Sequence[ScanRecord],
    pairs: Sequence[tuple[int, int]],
    n_runs: int,
) -> None:
    """Put the scans before the last behind a summary, so many as a page bears."""
    earlier = scans[:-1]
    cells = len(pairs) * len(scans[-1].layers)
    most = int(np.clip(_MOST_CELLS // (cells * n_runs), 1, _MOST_SCANS))
    shown = chosen_scans(earlier, most)
    if not shown:
        return
    panels = {f"epoch {scan.epoch}": pair_map(scan, pairs, details=False) for scan in shown}
    count = f"{len(shown)} of {len(earlier)}" if len(shown) < len(earlier) else str(len(earlier))
    group = PanelGroup(f"cosines_earlier_{len(section.folded) + 1}", "cosines", panels)
    section.folded.append((f"{name}: earlier scans ({count})", group))
