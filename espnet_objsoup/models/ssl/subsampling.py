# SPDX-License-Identifier: Apache-2.0
"""How many encoder frames a number of front-end frames becomes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# All factors of ESPnet's input layers (1, 2, 3, 4, 6, 8) divide the difference of these lengths.
_SHORTEST, _LONGEST = 96, 120


@dataclass(frozen=True)
class Subsampling:
    """Lengths before and after the encoder: T frames become (T - min_frames) // factor + 1.

    Attributes:
        factor: front-end frames per encoder frame.
        min_frames: front-end frames that the first encoder frame sees; fewer give none.
    """

    factor: int
    min_frames: int

    def length(self, frames: Tensor) -> Tensor:
        """Encoder frames, >= 0, of utterances with `frames` (B,) front-end frames."""
        return (torch.div(frames - self.min_frames, self.factor, rounding_mode="floor") + 1).clamp(
            min=0
        )

    def blocks(self, frames: Tensor) -> Tensor:
        """Encoder frames (B,) that have `factor` front-end frames of their own."""
        whole = torch.div(frames, self.factor, rounding_mode="floor")
        return torch.minimum(self.length(frames), whole)


@torch.no_grad()
def measure_subsampling(
    encoder: nn.Module, preencoder: nn.Module | None, input_size: int
) -> Subsampling:
    """Find the subsampling of an encoder from the lengths that it returns.

    Args:
        encoder: ESPnet encoder.
        preencoder: what stands between features and encoder, or None.
        input_size: features' dimension.

    Raises:
        ValueError: if the lengths do not follow `Subsampling`.
    """
    like = next(encoder.parameters())
    if like.is_meta:  # built for its shapes only: nothing can be measured
        return Subsampling(1, 1)
    was_training = encoder.training
    encoder.eval()
    # Longest first: recurrent encoders pack their sequences in this order.
    lengths = torch.arange(_LONGEST, _SHORTEST - 1, -1, device=like.device)
    features = like.new_zeros(len(lengths), _LONGEST, input_size)
    frames = lengths
    if preencoder is not None:
        features, frames = preencoder(features, frames)
    found = encoder(features, frames)[1].to(lengths).flip(0)
    encoder.train(was_training)
    frames = lengths.flip(0)
    gained = int(found[-1] - found[0])
    factor = (_LONGEST - _SHORTEST) // gained if gained > 0 else 0
    if factor > 0:
        # The first length that gives a new frame has no frame left over.
        first = int((found > found[0]).nonzero()[0, 0])
        min_frames = int(frames[first]) - (int(found[first]) - 1) * factor
        result = Subsampling(factor, max(min_frames, 1))
        if torch.equal(result.length(frames), found):
            return result
    raise ValueError(
        f"ssl: expected an encoder whose output has one frame per fixed number of input frames, "
        f"found {type(encoder).__name__} with output lengths {found.tolist()} for input lengths "
        f"{_SHORTEST} to {_LONGEST}; choose another encoder or input_layer, or ssl: none"
    )
