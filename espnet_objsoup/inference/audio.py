# SPDX-License-Identifier: Apache-2.0
"""Speech as users have it, as mono samples at the model's rate, block by block.

A recording of hours is never in memory as a whole. Neither torch nor espnet2 is imported.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr

from espnet_objsoup.data.audio_io import info_of, open_audio
from espnet_objsoup.decoding.options import InferenceError

if TYPE_CHECKING:
    pass

Speech = "str | Path | np.ndarray | Tensor"
_BLOCK_S = 10
_MAX_CHANNELS = 8
# Larger floating-point values are integers that were not scaled.
_LARGEST_PEAK = 100.0
_LARGEST_INT16 = 32768
# Decoders disagree about an MP3 file's delay and padding by up to two MPEG frames.
_MP3_SLACK = 2304


@dataclass(frozen=True)
class Source:
    """Speech and how messages call it.

    Attributes:
        name: path, or `speech` with its number in a list.
        speech: path, array or tensor.
        sample_rate_hz: of an array; None: the model's. A file knows its own.
    """

    name: str
    speech: Any
    sample_rate_hz: int | None = None


def is_path(speech: object) -> bool:
    """Whether speech is the name of a file."""
    return isinstance(speech, str | Path)


def blocks(source: Source, rate_hz: int) -> Iterator[np.ndarray]:
    """Samples of a source, float32 (N,) per block, mono at `rate_hz`.

    Raises:
        InferenceError: for a file that is not there or no audio, for no samples, NaN or infinity,
            with the source's name.
    """
    try:
        if is_path(source.speech):
            yield from _file_blocks(source, rate_hz)
        else:
            yield from _array_blocks(source, rate_hz)
    except InferenceError:
        raise
    except (OSError, ValueError) as err:
        raise named(source, err) from err


def named(source: Source, err: Exception) -> InferenceError:
    """An error about a source, with its name."""
    if isinstance(err, FileNotFoundError):
        reason = "expected an audio file, found none"
    elif isinstance(err, OSError):
        reason = f"expected an audio file, found one that cannot be read ({err.strerror or err})"
    else:
        reason = str(err)
    return SourceError(source.name, reason)


class SourceError(InferenceError):
    """What is wrong with one source; others may be decoded all the same.

    Args:
        name: of the source.
        reason: what was expected and found.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.reason = reason


def _file_blocks(source: Source, rate_hz: int) -> Iterator[np.ndarray]:
    with open_audio(str(source.speech)) as sound:
        info = info_of(sound)
        if info.channels > 1:
            _tell_of_mixing(source, info.channels)
        resampler = _Resampler(info.sample_rate_hz, rate_hz)
        found = 0
        for block in _read_blocks(sound):
            found += len(block)
            yield from resampler(_checked(block.mean(axis=1), found - len(block), info))
        yield from resampler.end()
    slack = _MP3_SLACK if info.container == "MP3" else 0
    if info.frames is not None and found + slack < info.frames:
        raise ValueError(
            f"expected {info.frames} samples as the header says, found {found}: the file is cut "
            "off or damaged; replace it"
        )
    if found == 0:
        raise ValueError("expected audio, found no samples")


def _read_blocks(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Blocks (N, channels)."""
    try:
        while len(block := sound.read(_BLOCK_S * sound.samplerate, "float32", always_2d=True)):
            yield block
    except soundfile.LibsndfileError as err:
        raise ValueError(
            f"expected audio, found damage ({err.error_string}); replace the file"
        ) from err


def _array_blocks(source: Source, rate_hz: int) -> Iterator[np.ndarray]:
    given = np.asarray(_to_numpy(source.speech))
    if given.size == 0:
        raise ValueError("expected audio, found no samples")
    _check_integers(given)
    samples = _mono(source, given)
    rate = rate_hz if source.sample_rate_hz is None else source.sample_rate_hz
    if not isinstance(rate, int | np.integer) or rate <= 0:
        raise ValueError(f"sample_rate_hz: expected a whole number above 0, found {rate!r}")
    resampler = _Resampler(int(rate), rate_hz)
    size = _BLOCK_S * int(rate)
    for begin in range(0, len(samples), size):
        block = _checked(_scaled(samples[begin : begin + size]), begin, rate_hz=int(rate))
        yield from resampler(block)
    yield from resampler.end()


def _check_integers(samples: np.ndarray) -> None:
    """Refuse integers whose scale is not that of their type: they would be heard as silence.

    Raises:
        ValueError: saying what was expected.
    """
    if samples.dtype.kind not in "iu":
        return
    if samples.dtype.itemsize > 4:
        raise ValueError(
            f"expected integers of 8, 16 or 32 bits, which have the range of their type, found "
            f"{samples.dtype}; samples of 16 bits are given as numpy.int16"
        )
    if samples.dtype == np.int32 and 0 < np.abs(samples.astype(np.int64)).max() <= _LARGEST_INT16:
        raise ValueError(
            "expected int32 samples with the range of their type, found none above "
            f"{_LARGEST_INT16}; samples of 16 bits are given as numpy.int16"
        )


def _to_numpy(speech: object) -> object:
    # A tensor, without importing torch.
    return speech.detach().cpu().numpy() if hasattr(speech, "detach") else speech


def _mono(source: Source, samples: np.ndarray) -> np.ndarray:
    """Samples (N,) of an array (N,), (N, channels) or (channels, N), in its own type."""
    if samples.dtype.kind not in "iuf":
        raise ValueError(f"expected samples as numbers, found an array of {samples.dtype}")
    if samples.ndim == 1:
        return samples
    if samples.ndim != 2 or min(samples.shape) > _MAX_CHANNELS:
        raise ValueError(
            f"expected samples (N,), or (N, channels) with up to {_MAX_CHANNELS} channels, found "
            f"shape {samples.shape}; several utterances are given as a list"
        )
    axis = int(np.argmin(samples.shape))
    if samples.shape[axis] == 1:
        return samples.reshape(-1)
    _tell_of_mixing(source, samples.shape[axis])
    return _scaled(samples).mean(axis=axis)


def _scaled(samples: np.ndarray) -> np.ndarray:
    """Float32; integers over the range of their type become -1 .. 1."""
    kind = samples.dtype.kind
    if kind == "f":
        return samples.astype(np.float32)
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    centre = half if kind == "u" else 0.0
    return ((samples - centre) / half).astype(np.float32)


def _checked(samples: np.ndarray, begin: int, info: Any = None, rate_hz: int = 0) -> np.ndarray:
    rate = info.sample_rate_hz if info is not None else rate_hz
    finite = np.isfinite(samples)
    if not finite.all():
        at = (begin + int(np.argmin(finite))) / rate
        raise ValueError(f"expected finite samples, found NaN or infinity at {at:.3f} s")
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > _LARGEST_PEAK:
        raise ValueError(
            f"expected samples in -1 .. 1, found {peak:.0f}; divide by 32768 if they were 16-bit "
            "integers (an integer array is scaled by itself)"
        )
    return samples


def _tell_of_mixing(source: Source, channels: int) -> None:
    logging.warning("%s: %d channels are mixed down to one", source.name, channels)


class _Resampler:
    """Resamples blocks as if they were one."""

    def __init__(self, rate_hz: int, target_hz: int) -> None:
        self._stream = None
        if rate_hz != target_hz:
            self._stream = soxr.ResampleStream(rate_hz, target_hz, 1, dtype="float32")

    def __call__(self, block: np.ndarray) -> Iterator[np.ndarray]:
        yield self._stream.resample_chunk(block) if self._stream else block

    def end(self) -> Iterator[np.ndarray]:
        if self._stream:
            yield self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
