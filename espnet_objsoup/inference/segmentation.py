# SPDX-License-Identifier: Apache-2.0
"""Long audio in segments that a model can take.

A cut is made in a pause where there is one; where there is none, segments overlap, and what was
decoded twice is joined by `joining`. Neither torch nor espnet2 is imported.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from espnet_objsoup.decoding.options import InferenceError

_FRAME_S = 0.01
_PAUSE_S = 0.3
# A pause is that much below the louder part of its surroundings.
_PAUSE_DB = 25.0
_LOUD_PERCENTILE = 90
_SILENCE_PEAK = 10 ** (-70 / 20)
_EPSILON = 1e-12


@dataclass(frozen=True)
class SegmentOptions:
    """How long audio is cut.

    Attributes:
        max_segment_s: longest segment.
        overlap_s: of segments without a pause between them; at most a quarter of the longest.

    Raises:
        InferenceError: for lengths that do not go together.
    """

    max_segment_s: float = 30.0
    overlap_s: float = 2.0

    def __post_init__(self) -> None:
        """Check how the lengths go together."""
        if not self.max_segment_s >= 1.0:
            raise InferenceError(
                f"max_segment_s: expected at least 1 s, found {self.max_segment_s}"
            )
        if not self.overlap_s >= 0.0:
            raise InferenceError(f"overlap_s: expected 0 s or more, found {self.overlap_s}")

    @property
    def used_overlap_s(self) -> float:
        """Overlap, which is short in short segments."""
        return min(self.overlap_s, self.max_segment_s / 4)


@dataclass(frozen=True)
class Piece:
    """A segment before it is decoded.

    Attributes:
        start_s: where it begins in the audio.
        overlap_s: of its beginning with the end of the piece before it.
        samples: (N,).
        is_last: nothing follows.
    """

    start_s: float
    overlap_s: float
    samples: np.ndarray
    is_last: bool

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to hear in it."""
        return float(np.abs(self.samples).max(initial=0.0)) < _SILENCE_PEAK


def split(blocks: Iterable[np.ndarray], rate_hz: int, options: SegmentOptions) -> Iterator[Piece]:
    """Cut a stream of samples into pieces.

    Audio no longer than the longest segment is one piece, as it is.

    Args:
        blocks: arrays (N,).
        rate_hz: of the samples.
        options: of the cuts.
    """
    longest = round(options.max_segment_s * rate_hz)
    # So much more is read ahead, so that no rest is shorter than this.
    shortest = longest // 5
    overlap = round(options.used_overlap_s * rate_hz)
    source = iter(blocks)
    buffer = np.zeros(0, np.float32)
    start, before, ended = 0, 0, False
    while True:
        buffer, ended = _fill(buffer, source, longest + shortest, ended)
        if ended and len(buffer) <= longest:
            yield Piece(start / rate_hz, before / rate_hz, buffer, True)
            return
        latest = min(longest, len(buffer) - shortest)
        cut = _find_pause(buffer, latest // 2, latest, rate_hz)
        end, again = (latest, overlap) if cut is None else (cut, 0)
        yield Piece(start / rate_hz, before / rate_hz, buffer[:end], False)
        buffer = buffer[end - again :]
        start, before = start + end - again, again


def _fill(
    buffer: np.ndarray, source: Iterator[np.ndarray], size: int, ended: bool
) -> tuple[np.ndarray, bool]:
    """The buffer with at least `size` samples, or all that there are."""
    parts, total = [buffer], len(buffer)
    while not ended and total < size:
        block = next(source, None)
        if block is None:
            ended = True
        else:
            parts.append(block)
            total += len(block)
    return (parts[0] if len(parts) == 1 else np.concatenate(parts)), ended


def _find_pause(samples: np.ndarray, begin: int, end: int, rate_hz: int) -> int | None:
    """Middle of the quietest pause that lies between two samples, or None."""
    hop = max(1, round(_FRAME_S * rate_hz))
    width = round(_PAUSE_S / _FRAME_S)
    frames = samples[: end - end % hop].astype(np.float64).reshape(-1, hop)
    power = (frames**2).mean(axis=1)
    first = begin // hop
    if len(power) - first <= width:
        return None
    smooth = np.convolve(power, np.full(width, 1 / width), mode="valid")  # begins at its frame
    quiet = smooth[first:]
    loud = np.percentile(power, _LOUD_PERCENTILE)
    if quiet.min() > loud * 10 ** (-_PAUSE_DB / 10):
        return None
    # In digital silence many places are equal: the middle of the longest stretch.
    low = np.flatnonzero(quiet <= quiet.min() * 1.01 + _EPSILON)
    stretches = np.split(low, np.flatnonzero(np.diff(low) > 1) + 1)
    stretch = max(stretches, key=len)
    return int((first + (stretch[0] + stretch[-1]) / 2 + width / 2) * hop)
