# SPDX-License-Identifier: Apache-2.0
"""`soup.jsonl`: what the soup did, a JSON object per line."""

import itertools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from espnet_objsoup.data.files import naming_place, write_bytes
from espnet_objsoup.gradients.layer_selection import Scan

FILE_NAME = "soup.jsonl"


class SoupLog:
    """Appends lines; a resumed run first drops those that it will write again.

    Args:
        directory: of the experiment; None: nothing is written (other processes than the first).

    Attributes:
        lines: so many of them belong to this training.
    """

    def __init__(self, directory: Path | None) -> None:
        self.path = None if directory is None else Path(directory) / FILE_NAME
        self.lines = 0

    def start_afresh(self) -> None:
        """Put a file of an earlier training aside, as `soup.1.jsonl`, `soup.2.jsonl`, ..."""
        self.lines = 0
        if self.path is None or not self.path.exists():
            return
        numbers = itertools.count(1)
        names = (self.path.with_name(f"{self.path.stem}.{i}.jsonl") for i in numbers)
        os.replace(self.path, next(name for name in names if not name.exists()))

    def rewind(self, steps: int, lines: int | None = None) -> None:
        """Keep what was written before a checkpoint, every line whole or not at all.

        Args:
            steps: optimiser steps taken then.
            lines: written then; None if the checkpoint does not say: by steps alone, a step
                skipped right after it would be told twice.
        """
        if self.path is None or not self.path.exists():
            return
        with open(self.path, encoding="utf-8") as file:
            kept = [line for line in file if _step_of(line) <= steps][:lines]
        write_bytes(self.path, "".join(kept).encode())
        self.lines = len(kept)

    def write(self, kind: str, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """Append one line.

        Args:
            kind: `refresh`, `scan` or `skipped`.
            step: optimiser steps taken before.
            epoch: from 1.
            values: numbers, strings, lists and dicts of them; what is not finite becomes null.
        """
        if self.path is None:
            return
        line = json.dumps({"kind": kind, "step": step, "epoch": epoch, **_plain(values)})
        with naming_place(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.lines += 1

    def write_scan(self, scan: Scan, step: int, names: list[str], objectives: list[str]) -> None:
        """Append what a scan found, with the cosines of every layer."""
        values = {
            "objectives": objectives,
            "layers": names,
            "scores": scan.scores,
            "errors": scan.errors,
            "worst": scan.worst,
            "selected": [names[i] for i in scan.selected],
            "cosines": scan.cosines,
            "counted": scan.counted.int(),
        }
        self.write("scan", step, scan.epoch, values)


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return math.inf  # cut off by a kill


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
