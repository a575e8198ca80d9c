# SPDX-License-Identifier: Apache-2.0
"""Encoder output of utterances of unequal length.

Shapes: B utterances, N samples, F features, T frames, D encoder features.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from espnet_objsoup.inference.loading import LoadedModel

# Divisible by what front ends and encoders subsample by, so that frames are counted exactly.
_PROBE_S = 2.4
_LONGEST_MINIMUM_S = 1.0


class Encoder:
    """The shared part of a model.

    Args:
        loaded: the model.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded

    @torch.no_grad()
    def __call__(self, speeches: Sequence[np.ndarray | Tensor]) -> tuple[Tensor, Tensor]:
        """Encode utterances.

        Args:
            speeches: B arrays (N,).

        Returns:
            h (B, T, D), lengths (B,).
        """
        # Features of each alone: the frames at the end of a short utterance would otherwise see the
        # padding, and hypotheses would depend on what an utterance is decoded with.
        features, lengths = zip(*map(self._features, speeches), strict=True)
        padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
        h, h_lengths = self.loaded.model.encode_features(padded, torch.cat(lengths))
        return h.to(self.loaded.full_dtype), h_lengths

    def _features(self, speech: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """Features (T, F) of one utterance and their length (1,)."""
        loaded = self.loaded
        wave = torch.as_tensor(speech, dtype=loaded.full_dtype, device=loaded.device).reshape(1, -1)
        length = torch.tensor([wave.size(1)], device=loaded.device)
        features, lengths = loaded.model.features({"speech": wave, "speech_lengths": length})
        return features[0].to(loaded.dtype), lengths

    @cached_property
    def frame_shift_s(self) -> float:
        """Seconds from one frame of the output to the next."""
        size = round(_PROBE_S * self.loaded.sample_rate_hz)
        once, twice = (self([np.zeros(n * size, np.float32)])[1].item() for n in (1, 2))
        return _PROBE_S / (twice - once)

    @cached_property
    def shortest(self) -> int:
        """Samples of the shortest speech that there is a frame for, found by trying."""
        low, high = 0, round(_LONGEST_MINIMUM_S * self.loaded.sample_rate_hz)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._encodes(middle) else (middle, high)
        return high

    def _encodes(self, samples: int) -> bool:
        from espnet2.legacy.nets.pytorch_backend.transformer.subsampling import TooShortUttError

        try:
            return self([np.zeros(samples, np.float32)])[1].item() > 0
        # Windows and convolutions longer than their input.
        except (TooShortUttError, RuntimeError, IndexError):
            return False

    def is_too_short(self, samples: int) -> bool:
        """Whether speech of so many samples has no frame."""
        if samples >= _LONGEST_MINIMUM_S * self.loaded.sample_rate_hz:
            return False
        return samples < self.shortest
