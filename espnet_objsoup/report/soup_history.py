# SPDX-License-Identifier: Apache-2.0
"""`soup.jsonl` as curves and scans; what its lines hold is in docs/soups.md."""

import json
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_objsoup.report.series import ReportError, Series

FILE_NAME = "soup.jsonl"  # as espnet_objsoup.train.soup_log names it, which imports torch


@dataclass(frozen=True)
class ScanRecord:
    """Cosines between expected gradients in every layer.

    Attributes:
        step: optimiser steps taken.
        epoch: from 1.
        objectives: K names.
        layers: N names, from the input to the output.
        selected: those of them that weights come from.
        scores: (N,) mean cosine, NaN if nothing counted.
        errors: (N,) standard errors of the scores, NaN if not known.
        cosines: (N, K, K) in -1..1, NaN where there was too little data and on the diagonal.
    """

    step: int
    epoch: int
    objectives: list[str]
    layers: list[str]
    selected: list[str]
    scores: np.ndarray
    errors: np.ndarray
    cosines: np.ndarray


@dataclass
class SoupHistory:
    """All that a file says.

    Attributes:
        refreshes: number of them.
        steps: of the last line.
        epoch: of the last line.
        series: name such as `soup_weight/asr/fr`, or `loss/asr/fr` -> curve over optimiser steps.
        scans: in order.
        skipped: steps that were not taken.
        causes: what made them so -> number of steps.
        unfinished: the last line was being written.
    """

    refreshes: int = 0
    steps: int = 0
    epoch: int = 0
    series: dict[str, Series] = field(default_factory=dict)
    scans: list[ScanRecord] = field(default_factory=list)
    skipped: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    unfinished: bool = False

    def selection_changes(self) -> list[float]:
        """Steps of the refreshes that were the first with other layers, the estimate begun anew.

        Where no layer is selected any more, it is left as it is.
        """
        names = self.names("soup_selected/")
        if not names:
            return []
        chosen = np.stack([self.series[f"soup_selected/{name}"].values for name in names])
        changed = (chosen[:, 1:] != chosen[:, :-1]).any(0) & (chosen[:, 1:] == 1.0).any(0)
        return self.series[f"soup_selected/{names[0]}"].steps[1:][changed].tolist()

    def conflict_rate(self, name: str) -> Series | None:
        """Share of pairs in conflict: `all`, or the number of a level; None if it is not known.

        Without gradients, which not all weightings need, the file says 0, which is no finding.
        """
        rate = self.series.get(f"soup_conflict/{name}")
        if rate is None or not rate.known or not self.names("soup_grad_norm/"):
            return None
        return rate

    def names(self, prefix: str) -> list[str]:
        """What follows `prefix` in the names of curves, in the order of the file."""
        return [name[len(prefix) :] for name in self.series if name.startswith(prefix)]


def read_soup_history(path: Path) -> SoupHistory:
    """Read a file, also one that is being written.

    Raises:
        ReportError: for a line that is damaged and not the last one.
        OSError: if it cannot be read.
    """
    history = SoupHistory()
    columns = _Columns()
    for number, line in _lines(path, history):
        try:
            kind, history.steps, history.epoch = line["kind"], int(line["step"]), int(line["epoch"])
            if kind == "refresh":
                columns.add(line)
            elif kind == "scan":
                history.scans.append(_scan(line))
            elif kind == "skipped":
                history.skipped += 1
                history.causes.update(line["causes"].keys())
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise ReportError(
                f"{path}:{number}: expected a line of a soup (kind, step, epoch and its values; "
                f"docs/soups.md), found another ({type(err).__name__}: {err}); take the line out"
            ) from err
    history.refreshes = len(columns.steps)
    history.series = columns.series()
    return history


def _lines(path: Path, history: SoupHistory) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbers and values of the lines; the last one is left out if it is not whole."""
    with open(path, "rb") as file:
        fault: str | None = None
        for number, line in enumerate(file, 1):
            if fault is not None:
                raise ReportError(
                    f"{path}:{number - 1}: expected a JSON object, found {fault}; only the last "
                    "line may be unfinished. Take the line out, or copy the file again"
                )
            try:
                values = json.loads(line)
                if not isinstance(values, dict):
                    raise ValueError(f"a value of type {type(values).__name__}")
            except (ValueError, RecursionError) as err:
                fault = str(err)[:200]
                continue
            yield number, values
        history.unfinished = fault is not None


class _Columns:
    """Values of refreshes by name, as compact as numbers are."""

    def __init__(self) -> None:
        self.steps = array("d")
        self.columns: dict[str, array] = {}

    def add(self, line: Mapping[str, Any]) -> None:
        row = len(self.steps)
        for name, value in _numbers(line):
            column = self.columns.get(name)
            if column is None:
                column = self.columns[name] = array("d")
            if len(column) < row:
                column.extend([math.nan] * (row - len(column)))
            column.append(math.nan if value is None else value)
        self.steps.append(line["step"])

    def series(self) -> dict[str, Series]:
        steps = np.array(self.steps)
        found = {}
        for name, column in self.columns.items():
            column.extend([math.nan] * (len(steps) - len(column)))
            found[name] = Series(steps, np.array(column))
        return found


def _numbers(line: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    for name, value in line.items():
        if name.startswith("soup_"):
            yield name, value
    for name, value in (line.get("losses") or {}).items():
        yield f"loss/{name}", value


def _scan(line: Mapping[str, Any]) -> ScanRecord:
    objectives, layers = list(line["objectives"]), list(line["layers"])
    shape = (len(layers), len(objectives), len(objectives))
    cosines = np.array(line["cosines"], dtype=float)
    counted = np.array(line["counted"], dtype=bool)
    scores, errors = (np.array(line[key], dtype=float) for key in ("scores", "errors"))
    if not (cosines.shape == counted.shape == shape and scores.shape == errors.shape == shape[:1]):
        raise ValueError(f"cosines of shape {cosines.shape} where {shape} was expected")
    return ScanRecord(
        step=int(line["step"]),
        epoch=int(line["epoch"]),
        objectives=objectives,
        layers=layers,
        selected=list(line["selected"]),
        scores=scores,
        errors=errors,
        cosines=np.where(counted & ~np.eye(shape[1], dtype=bool), cosines, np.nan),
    )
