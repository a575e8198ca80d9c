# SPDX-License-Identifier: Apache-2.0
"""Which frames of a recording are silent, by their energy. Neither torch nor espnet2 is imported.

A recording's own levels decide: its loud frames and its quiet ones, of the last half minute.
"""

import numpy as np

_FRAME_S = 0.01
_SMOOTHED_FRAMES = 3
_REMEMBERED_FRAMES = 3000
_LOUD_PERCENTILE, _QUIET_PERCENTILE = 90, 5
# Silence is nearer to the quiet frames than to the loud ones. With less between them, which is so
# in steady noise and in speech without a pause, nothing is called silent.
_SILENCE_SHARE = 0.25
_LEAST_RANGE_DB, _LARGEST_RANGE_DB = 20.0, 50.0
_INAUDIBLE_DB = -70.0  # of full scale
_FLOOR = 1e-12


def frame_samples(rate_hz: int) -> int:
    """Samples of a frame."""
    return max(1, round(_FRAME_S * rate_hz))


def is_inaudible(samples: np.ndarray) -> bool:
    """Whether there is nothing to hear in samples (N,)."""
    return float(np.abs(samples).max(initial=0.0)) < 10 ** (_INAUDIBLE_DB / 20)


class SilenceDetector:
    """Tells silent frames while a recording goes by.

    Args:
        rate_hz: of the samples.
    """

    def __init__(self, rate_hz: int) -> None:
        self._hop = frame_samples(rate_hz)
        self._past = np.zeros(0)
        self._present = np.zeros(0)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Whether each whole frame of samples (N,) is silent, as (frames,) bool."""
        whole = len(samples) // self._hop
        frames = samples[: whole * self._hop].astype(np.float64).reshape(-1, self._hop)
        self._present = 10 * np.log10((frames**2).mean(axis=1) + _FLOOR)
        if whole == 0:
            return np.zeros(0, bool)
        known = np.concatenate([self._past, self._present])
        loud = np.percentile(known, _LOUD_PERCENTILE)
        range_db = min(loud - np.percentile(known, _QUIET_PERCENTILE), _LARGEST_RANGE_DB)
        threshold = loud - (1 - _SILENCE_SHARE) * range_db
        if range_db < _LEAST_RANGE_DB:
            threshold = -np.inf
        # A frame is silent only with its neighbours.
        half = _SMOOTHED_FRAMES // 2
        padded = np.pad(self._present, half, mode="edge")
        loudest = np.lib.stride_tricks.sliding_window_view(padded, _SMOOTHED_FRAMES).max(axis=1)
        return loudest < max(threshold, _INAUDIBLE_DB)

    def pass_by(self, samples: int) -> None:
        """Remember the frames of the first samples of the last call."""
        passed = self._present[: samples // self._hop]
        self._past = np.concatenate([self._past, passed])[-_REMEMBERED_FRAMES:]
