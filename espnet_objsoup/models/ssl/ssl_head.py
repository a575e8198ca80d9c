# SPDX-License-Identifier: Apache-2.0
"""What CPC and BEST-RQ have in common.

Shapes use B utterances, T front-end frames, T' encoder frames, F features, D encoder features.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from espnet_objsoup.models.ssl.subsampling import Subsampling
from espnet_objsoup.models.task_head import HeadOutput

_LARGEST_SEED = 2**62
# Features are in natural logarithms of energy: a smaller deviation is rounding.
_MIN_STD = 1e-4


@dataclass(frozen=True)
class SSLInputs:
    """One batch for the self-supervised encoder pass.

    Attributes:
        features: (B, T, F) front-end frames that the encoder may see, before normalisation; a
            tensor of its own, zero beyond `lengths`.
        lengths: (B,) frames, each long enough for the encoder, also in rows that do not count.
        context: what the head needs to compute losses; never given to the encoder.
    """

    features: Tensor
    lengths: Tensor
    context: Any


class AbsSSLHead(nn.Module, ABC):
    """A self-supervised objective: what its encoder pass sees, and losses of the result.

    Args:
        feature_size: F.
        encoder_size: D.
        subsampling: of the encoder.
        seed: of everything random in eval mode, so that losses of epochs can be compared.
    """

    def __init__(
        self, feature_size: int, encoder_size: int, subsampling: Subsampling, seed: int
    ) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.encoder_size = encoder_size
        self.subsampling = subsampling
        self.seed = seed

    @abstractmethod
    def usable(self, lengths: Tensor) -> Tensor:
        """Whether utterances with `lengths` (B,) front-end frames take part: (B,) bool."""

    @abstractmethod
    def prepare(self, features: Tensor, lengths: Tensor) -> SSLInputs:
        """Choose what the encoder sees and what is to be predicted.

        Args:
            features: (B, T, F) front-end frames before normalisation; left unchanged.
            lengths: (B,) frames.
        """

    @abstractmethod
    def outputs(self, h: Tensor, lengths: Tensor, context: Any) -> HeadOutput:
        """Losses and counts of predictions, zero in rows that are not usable.

        Args:
            h: (B, T', D) encoder output for the features of `prepare`.
            lengths: (B,) encoder frames.
            context: of `prepare`.

        Returns:
            `target_tokens` counts predictions, `correct_tokens` those ranked first. The losses
            depend on every parameter of the head, also where no row is usable.
        """

    def losses(self, h: Tensor, lengths: Tensor, context: Any) -> Tensor:
        """(B,) mean loss of each utterance's predictions; arguments as of `outputs`."""
        return self.outputs(h, lengths, context).losses

    def _generators(self, lengths: list[int]) -> list[torch.Generator]:
        """A source of random numbers per utterance, so that its batch does not matter.

        In eval mode it depends on `seed` and the utterance's length alone, and the global
        generator is left as it is.
        """
        if self.training:
            seeds = torch.randint(_LARGEST_SEED, (len(lengths),)).tolist()
        else:
            seeds = [self.seed * 1_000_003 + length for length in lengths]
        return [torch.Generator().manual_seed(seed) for seed in seeds]


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or float64 if it is that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def valid_frames(lengths: Tensor, size: int) -> Tensor:
    """(B, size) bool: frames before `lengths` (B,)."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def statistics(features: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over an utterance's frames.

    Args:
        features: (B, T, F).
        counted: (B, T) bool, frames that count.

    Returns:
        mean and standard deviation, both (B, 1, F).
    """
    n = counted.sum(1).clamp(min=1)[:, None, None]
    mean = features.masked_fill(~counted[..., None], 0.0).sum(1, keepdim=True) / n
    centred = (features - mean).masked_fill(~counted[..., None], 0.0)
    variance = centred.square().sum(1, keepdim=True) / n
    return mean, variance.sqrt().clamp(min=_MIN_STD)


def stretch(features: Tensor, size: int) -> Tensor:
    """The first `size` frames of (B, T, F), zeros where there are fewer; always a copy."""
    result = features.new_zeros(features.size(0), size, features.size(2))
    n = min(size, features.size(1))
    result[:, :n] = features[:, :n]
    return result


def check_range(name: str, value: float, low: float, high: float, integer: bool = False) -> None:
    """Refuse an option of `ssl_conf` that is not within [low, high].

    Raises:
        ValueError: naming the option, the range and the value.
    """
    kinds = (int,) if integer else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "an integer" if integer else "a number"
        raise ValueError(f"ssl_conf.{name}: expected {kind} in [{low:g}, {high:g}], found {value}")
