# SPDX-License-Identifier: Apache-2.0
"""Curves that ESPnet writes for TensorBoard: losses, gradient norms, times."""

import struct
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from espnet_objsoup.report.series import ReportError, Series

_HEADER = struct.Struct("<Q4x")  # length of an event and its checksum; another follows the event
_FOOTER_BYTES = 4
_EPOCH = "iter_epoch"


@dataclass
class Statistics:
    """What training and validation reported; steps are batches.

    Attributes:
        train: name such as `loss_asr_fr` -> means over `log_interval` batches.
        train_epochs: means over epochs.
        valid: means over epochs.
        epochs: epochs that were finished.
        last_write_s: seconds since 1970 of the newest value.
    """

    train: dict[str, Series] = field(default_factory=dict)
    train_epochs: dict[str, Series] = field(default_factory=dict)
    valid: dict[str, Series] = field(default_factory=dict)
    epochs: int = 0
    last_write_s: float = 0.0


class _Curves:
    """Curves of one writer; what a resumed training repeats replaces what was there."""

    def __init__(self) -> None:
        self.points: defaultdict[str, tuple[array, array]] = defaultdict(
            lambda: (array("q"), array("d"))
        )

    def cut(self, step: int) -> None:
        """Forget everything from a step on."""
        for steps, values in self.points.values():
            while steps and steps[-1] >= step:
                steps.pop()
                values.pop()

    def add(self, name: str, step: int, value: float) -> None:
        steps, values = self.points[name]
        steps.append(step)
        values.append(value)

    def series(self) -> dict[str, Series]:
        return {
            name: Series(np.array(steps, dtype=float), np.array(values))
            for name, (steps, values) in self.points.items()
            if steps
        }


def read_statistics(directory: Path) -> Statistics | None:
    """Read `tensorboard/` of an experiment; None if there are no values.

    Raises:
        ReportError: if a file holds something else.
    """
    statistics = Statistics()
    train, epochs, valid = _Curves(), _Curves(), _Curves()
    for path in sorted((directory / "train").glob("events.*")):
        first, ends = True, -1
        for step, name, value, time_s in _scalars(path):
            if first:
                train.cut(step)
                epochs.cut(step)
                first = False
            statistics.last_write_s = max(statistics.last_write_s, time_s)
            if name == _EPOCH:
                ends = step  # the means of the epoch follow, under the names of the intervals
                statistics.epochs = int(value)
            else:
                (epochs if step == ends else train).add(name, step, value)
    for path in sorted((directory / "valid").glob("events.*")):
        first = True
        for step, name, value, _ in _scalars(path):
            if first:
                valid.cut(step)
                first = False
            valid.add(name, step, value)
    statistics.train, statistics.valid = train.series(), valid.series()
    statistics.train_epochs = epochs.series()
    return statistics if statistics.train or statistics.train_epochs or valid.points else None


def _scalars(path: Path) -> Iterator[tuple[int, str, float, float]]:
    """Step, name, value and time of a file's numbers, without those that soup.jsonl has too."""
    # TensorBoard's own reader checks sums in Python and takes twenty times as long.
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    content = path.read_bytes()
    position = 0
    while position + _HEADER.size <= len(content):
        (length,) = _HEADER.unpack_from(content, position)
        start = position + _HEADER.size
        position = start + length + _FOOTER_BYTES
        if position > len(content):
            return  # being written
        try:
            event = Event.FromString(content[start : start + length])
        except DecodeError as err:
            raise ReportError(
                f"{path}: expected events of TensorBoard, found something else at byte {start}; "
                "move the file elsewhere to make the page without it"
            ) from err
        for value in event.summary.value:
            if value.HasField("simple_value") and not value.tag.startswith("soup_"):
                yield event.step, value.tag, value.simple_value, event.wall_time
