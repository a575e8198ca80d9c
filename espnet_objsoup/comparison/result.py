# SPDX-License-Identifier: Apache-2.0
"""A finished run as a small JSON: `results/<variant>/<arm>_seed<N>.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_objsoup.comparison.counts import BLEU_COLUMNS, ERRORS_COLUMNS, unpack
from espnet_objsoup.data.files import write_bytes

_FORMAT = 1


class ResultError(ValueError):
    """A JSON is not a result."""


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        variant, arm, seed: the run; the variant's name ends in `_equal_cost` for such runs.
        config, data: fingerprints.
        commit, machine: of the code, and in words.
        scores: objective -> measures in percent.
        utterances: objective -> `counts` and `test`.
        epochs, updates: of all trainings of the run.
        cpu_seconds: processor time of stage 11 of all trainings, start included.
        decode_cpu_seconds: of stages 12 and 13.
        wall_seconds: of everything.
        memory_mb: most memory of a process of stage 11.
        choice: arm that a grid has chosen; empty without one.
        valid: objective, as ESPnet's log spells it -> losses on the development data, epoch by
            epoch of the last training.
        soup: what `conflicts_of` gives.
    """

    variant: str
    arm: str
    seed: int
    config: str
    data: str
    commit: str
    machine: str
    scores: Mapping[str, Mapping[str, float]]
    utterances: Mapping[str, Mapping[str, str]]
    epochs: int
    updates: int
    cpu_seconds: float
    decode_cpu_seconds: float
    wall_seconds: float
    memory_mb: float
    choice: str = ""
    valid: Mapping[str, list[float]] = field(default_factory=dict)
    soup: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Arm and seed, as in the file's name."""
        return f"{self.arm}_seed{self.seed}"

    def counts(self, objective: str) -> np.ndarray:
        """(U, D) counts of an objective's utterances."""
        columns = ERRORS_COLUMNS if objective.startswith("asr/") else BLEU_COLUMNS
        where = f"{self.variant}/{self.name}.json: {objective}"
        return unpack(self.utterances[objective]["counts"], columns, where)

    def main_score(self, objective: str) -> float:
        """WER (CER where words have no spaces) or BLEU."""
        score = self.scores[objective]
        return next(score[key] for key in ("wer", "cer", "bleu") if key in score)

    def mean(self, task: str) -> float:
        """Mean of `main_score` over a task's objectives."""
        names = [name for name in self.scores if name.startswith(f"{task}/")]
        return sum(map(self.main_score, names)) / len(names)

    def save(self, results: Path) -> Path:
        """Write the file, whole or not at all; returns its path."""
        path = path_of(results, self.variant, self.arm, self.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"format": _FORMAT, **asdict(self)}, indent=1, ensure_ascii=False)
        write_bytes(path, content.encode() + b"\n")
        return path


def path_of(results: Path, variant: str, arm: str, seed: int) -> Path:
    """Where a run's result is."""
    return results / variant / f"{arm}_seed{seed}.json"


def load(path: Path) -> Result:
    """Read a result.

    Raises:
        ResultError: if it is none.
        OSError: if it cannot be read.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != _FORMAT:
            raise ValueError(f"format: expected {_FORMAT}")
        result = Result(**values)
        if path_of(path.parents[1], result.variant, result.arm, result.seed) != path:
            raise ValueError(f"that of {result.variant}/{result.name}")
        for objective in result.scores:
            result.counts(objective)
            result.main_score(objective)
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration) as err:
        raise ResultError(
            f"{path}: expected a result of this comparison, found {err!r}; remove it and run again"
        ) from err
    return result


def load_all(results: Path, variant: str) -> list[Result]:
    """All results of a variant, sorted by name.

    Raises:
        ResultError: if a file is none.
    """
    return [load(path) for path in sorted((results / variant).glob("*_seed*.json"))]
