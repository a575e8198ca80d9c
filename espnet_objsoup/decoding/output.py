# SPDX-License-Identifier: Apache-2.0
"""Hypotheses in memory and on disk, in ESPnet's layout, and how long they took."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from espnet_objsoup.data.datadir import write_table
from espnet_objsoup.data.files import write_bytes

FILES = ("text", "token", "token_int", "score")
LOGS = "logs"
REPORT = "decode.json"


class Hypothesis(Protocol):
    """What a search finds."""

    text: str
    tokens: list[str]
    token_ids: list[int]
    score: float


@dataclass
class Output:
    """Hypotheses by directory (`asr`, `st/2best_recog`, `asr_ctc`), file and utterance.

    Attributes:
        tables: directory -> file -> utterance -> value.
        utterances: number of utterances.
        audio_s: their duration.
        seconds: time spent on them, summed over processes; loading a model is not counted.
        wall_s: the same, of the process that took longest.
    """

    tables: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    utterances: int = 0
    audio_s: float = 0.0
    seconds: float = 0.0
    wall_s: float = 0.0

    def add(
        self, directory: str, utterance: str, results: Sequence[Hypothesis], nbest: int = 1
    ) -> None:
        """Add the hypotheses of an utterance, best first.

        The best one goes to `directory`; with `nbest` above 1 the n-th goes to
        `<directory>/<n>best_recog`, the name that ESPnet gives it. A beam may have ended with
        fewer hypotheses; an empty one is written as it is.
        """
        self._put(directory, utterance, results[0])
        if nbest > 1:
            for n, result in enumerate(results[:nbest], 1):
                self._put(f"{directory}/{n}best_recog", utterance, result)

    def _put(self, directory: str, utterance: str, result: Hypothesis) -> None:
        tables = self.tables.setdefault(directory, {name: {} for name in FILES})
        tables["text"][utterance] = result.text
        tables["token"][utterance] = " ".join(result.tokens)
        tables["token_int"][utterance] = " ".join(map(str, result.token_ids))
        tables["score"][utterance] = f"{result.score:.4f}"

    def merge(self, other: "Output") -> None:
        """Add all of another share; shares run side by side."""
        for directory, tables in other.tables.items():
            own = self.tables.setdefault(directory, {name: {} for name in FILES})
            for name, table in tables.items():
                own[name].update(table)
        self.utterances += other.utterances
        self.audio_s += other.audio_s
        self.seconds += other.seconds
        self.wall_s = max(self.wall_s, other.wall_s)

    @property
    def counts(self) -> dict[str, int]:
        """Utterances with a hypothesis, by task directory."""
        return {name: len(t["text"]) for name, t in self.tables.items() if "/" not in name}

    @property
    def speed(self) -> dict[str, float | int]:
        """Figures of speed.

        The real-time factor is that of one process, as ESPnet computes it: time spent over
        duration of the audio. Utterances per second are those of all processes together.
        """
        return {
            "utterances": self.utterances,
            "audio_seconds": round(self.audio_s, 3),
            "decode_seconds": round(self.seconds, 3),
            "wall_seconds": round(self.wall_s, 3),
            "rtf": round(self.seconds / self.audio_s, 5),
            "utterances_per_second": round(self.utterances / self.wall_s, 3),
        }

    def write(self, directory: Path, report: Mapping[str, Any]) -> None:
        """Write `<directory>/<task>/{text,token,token_int,score}` and `decode.json`.

        Everything is written to a temporary name first. Logs of the run stay; hypotheses of an
        earlier one go, also those of a task or rank that this one does not have.

        Args:
            directory: of a split.
            report: what `decode.json` says beside the figures of speed.
        """
        temporary = directory / ".new"
        shutil.rmtree(temporary, ignore_errors=True)
        for name, tables in self.tables.items():
            (temporary / name).mkdir(parents=True, exist_ok=True)
            for file, table in tables.items():
                write_table(table, temporary / name / file)
        content = json.dumps({**report, **self.speed}, indent=2, sort_keys=True) + "\n"
        write_bytes(temporary / REPORT, content.encode())
        (directory / REPORT).unlink(missing_ok=True)  # its presence says that all is in place
        for old in directory.iterdir():
            if old.is_dir() and not old.name.startswith(".") and old.name != LOGS:
                shutil.rmtree(old)
        for name in self.counts:
            os.replace(temporary / name, directory / name)
        os.replace(temporary / REPORT, directory / REPORT)
        temporary.rmdir()
