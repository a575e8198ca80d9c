# SPDX-License-Identifier: Apache-2.0
"""Long audio in segments that a model can take.

A long pause ends a segment, as it ends an utterance. Where there is none before a segment gets too
long, the longest pause does; where there is none at all, segments overlap, and what is decoded
twice is joined by `joining`. Neither torch nor espnet2 is imported.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from espnet_objsoup.decoding.options import InferenceError
from espnet_objsoup.inference.lengths import TrainedLength
from espnet_objsoup.inference.silence import SilenceDetector, frame_samples

DEFAULT_MAX_SEGMENT_S = 30.0
LEAST_MAX_SEGMENT_S = 1.0
MOST_MAX_SEGMENT_S = 24 * 3600.0
# Silences in a word are shorter than the first, those between utterances longer than the second;
# the third parts even less than an utterance.
_SHORTEST_PAUSE_S = 0.2
_END_OF_UTTERANCE_S = 0.4
_LONG_PAUSE_S = 1.0
_SHORTEST_UTTERANCE_S = 1.0
# Less sound between pauses is a click.
_SHORTEST_SOUND_S = 0.1
# What is left of a pause at the ends of a segment.
_MARGIN_S = 0.03


@dataclass(frozen=True)
class SegmentOptions:
    """How long audio is cut.

    Attributes:
        max_segment_s: longest segment; None: as long as few utterances were in training, or
            `DEFAULT_MAX_SEGMENT_S` if that is not known.
        max_whole_s: audio up to this is not cut; None: `max_segment_s`, and if that is not given
            either, the longest utterance in training.
        overlap_s: of segments without a pause between them; at most a quarter of the longest.

    Raises:
        InferenceError: for lengths that no segment can have.
    """

    max_segment_s: float | None = None
    max_whole_s: float | None = None
    overlap_s: float = 2.0

    def __post_init__(self) -> None:
        """Check the lengths."""
        for name in ("max_segment_s", "max_whole_s"):
            value = getattr(self, name)
            if value is not None and not LEAST_MAX_SEGMENT_S <= value <= MOST_MAX_SEGMENT_S:
                raise InferenceError(
                    f"{name}: expected at least {LEAST_MAX_SEGMENT_S} s and at most "
                    f"{MOST_MAX_SEGMENT_S:.0f} s, found {value}"
                )
        if not self.overlap_s >= 0.0:
            raise InferenceError(f"overlap_s: expected 0 s or more, found {self.overlap_s}")

    def for_model(self, trained: TrainedLength | None) -> "SegmentLengths":
        """Lengths for a model.

        Args:
            trained: lengths of its training utterances, if they are known.
        """
        default = DEFAULT_MAX_SEGMENT_S
        usual, longest = (default, default) if trained is None else trained.as_list()
        segment = max(LEAST_MAX_SEGMENT_S, usual)
        whole = longest
        if self.max_segment_s is not None:
            segment = whole = self.max_segment_s
        if self.max_whole_s is not None:
            whole = self.max_whole_s
        is_guess = trained is None and self.max_segment_s is None
        overlap = min(self.overlap_s, segment / 4)
        return SegmentLengths(segment, max(segment, whole), overlap, is_guess)


@dataclass(frozen=True)
class SegmentLengths:
    """Lengths that are settled.

    Attributes:
        segment_s: longest segment of audio that is cut.
        whole_s: longest audio that is not.
        overlap_s: of segments without a pause between them.
        is_guess: how long the training utterances were is not known.
    """

    segment_s: float
    whole_s: float
    overlap_s: float
    is_guess: bool = False


@dataclass(frozen=True)
class Piece:
    """A segment before it is decoded.

    Attributes:
        start_s: where it begins in the audio.
        overlap_s: of its beginning with the end of the piece before it.
        samples: (N,).
        is_whole: it is all of the audio.
    """

    start_s: float
    overlap_s: float
    samples: np.ndarray
    is_whole: bool = False


def split(blocks: Iterable[np.ndarray], rate_hz: int, lengths: SegmentLengths) -> Iterator[Piece]:
    """Cut a stream of samples into pieces.

    Short audio is one piece, as it is. Of longer audio pauses are left out.

    Args:
        blocks: arrays (N,).
        rate_hz: of the samples.
        lengths: of the pieces.
    """
    buffer = _Buffer(blocks, rate_hz)
    longest, whole, overlap = (
        round(seconds * rate_hz)
        for seconds in (lengths.segment_s, lengths.whole_s, lengths.overlap_s)
    )
    # So much more is read ahead, so that no rest is much shorter than this.
    ahead = longest + longest // 5
    buffer.fill(max(ahead, whole + 1))
    if buffer.ended and len(buffer.samples) <= whole:
        yield Piece(0.0, 0.0, buffer.samples, is_whole=True)
        return
    overlapping = 0
    silence = SilenceDetector(rate_hz)
    while len(buffer.samples) > overlapping:
        is_silent = silence(buffer.samples)
        lead = 0 if overlapping else _leading_silence(is_silent, len(buffer.samples), rate_hz)
        if lead == 0:
            cut = _cut(is_silent, len(buffer.samples), longest, rate_hz, buffer.ended)
            if cut.is_heard:
                samples = buffer.samples[: cut.end]
                yield Piece(buffer.start / rate_hz, overlapping / rate_hz, samples)
            overlapping = 0 if cut.at_pause else overlap
            lead = cut.end - overlapping
        silence.pass_by(lead)
        buffer.drop(lead)
        buffer.fill(ahead)


class _Buffer:
    """What was read and not yet cut.

    Attributes:
        samples: (N,).
        start: of the samples, in the audio.
        ended: nothing more is to be read.
    """

    def __init__(self, blocks: Iterable[np.ndarray], rate_hz: int) -> None:
        self._source = iter(blocks)
        self.samples = np.zeros(0, np.float32)
        self.start = 0
        self.ended = False

    def fill(self, size: int) -> None:
        """Read until there are `size` samples, or all that there are."""
        parts, total = [self.samples], len(self.samples)
        while not self.ended and total < size:
            block = next(self._source, None)
            if block is None:
                self.ended = True
            else:
                parts.append(block)
                total += len(block)
        self.samples = np.concatenate(parts)

    def drop(self, count: int) -> None:
        """Forget the first samples."""
        self.samples = self.samples[count:]
        self.start += count


def _leading_silence(is_silent: np.ndarray, size: int, rate_hz: int) -> int:
    """Samples to be left out before a piece."""
    if is_silent.all():
        return size
    return max(0, int(is_silent.argmin()) * frame_samples(rate_hz) - round(_MARGIN_S * rate_hz))


@dataclass(frozen=True)
class _Cut:
    """Where a piece that begins with the buffer ends.

    Attributes:
        end: in samples, without the pause that follows.
        at_pause: it ends with a pause or the audio, not in the midst of speech.
        is_heard: there is more than a click in it.
    """

    end: int
    at_pause: bool
    is_heard: bool


def _cut(is_silent: np.ndarray, size: int, longest: int, rate_hz: int, ended: bool) -> _Cut:
    """The end of the next piece.

    Args:
        is_silent: frames of the buffer.
        size: samples of the buffer.
        longest: samples of a piece.
        rate_hz: rate of the samples.
        ended: the buffer's end is that of the audio.
    """
    hop = frame_samples(rate_hz)
    margin = round(_MARGIN_S * rate_hz)
    sounding = np.flatnonzero(~is_silent)
    first, last = (int(sounding[0]), int(sounding[-1])) if len(sounding) else (0, 0)
    pause = _pause_after(is_silent, first, (longest - 2 * margin) // hop, rate_hz, ended)
    if pause is not None:
        end_frame = pause[0]
        end, at_pause = end_frame * hop + margin, True
    elif ended and size <= longest:
        # Samples after the last whole frame belong to it.
        end_frame = last + 1
        end, at_pause = min(size, end_frame * hop + max(margin, hop)), True
    else:
        # Not so late that a very short rest would be left.
        end = min(longest, max(longest // 2, size - longest // 5))
        end_frame, at_pause = end // hop, False
    sound_s = np.count_nonzero(~is_silent[first:end_frame]) * hop / rate_hz
    return _Cut(end, at_pause, sound_s >= _SHORTEST_SOUND_S)


def _pause_after(
    is_silent: np.ndarray, first: int, longest: int, rate_hz: int, ended: bool
) -> tuple[int, int] | None:
    """The pause, as frames, that ends the piece beginning with a frame; None if none does."""
    frame_s = frame_samples(rate_hz) / rate_hz
    edges = np.flatnonzero(np.diff(is_silent.astype(np.int8), prepend=0, append=0))
    pauses = [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if a > first]
    fitting = [
        (a, b) for a, b in pauses if (b - a) * frame_s >= _SHORTEST_PAUSE_S and a - first <= longest
    ]
    for a, b in fitting:
        pause_s, utterance_s = (b - a) * frame_s, (a - first) * frame_s
        if pause_s >= _LONG_PAUSE_S or (
            pause_s >= _END_OF_UTTERANCE_S and utterance_s >= _SHORTEST_UTTERANCE_S
        ):
            return a, b
    if ended and len(is_silent) - first <= longest:
        return None
    late = [pause for pause in fitting if pause[0] - first >= longest // 2]
    return max(late, key=lambda pause: pause[1] - pause[0], default=None)
