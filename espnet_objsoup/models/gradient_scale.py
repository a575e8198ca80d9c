# SPDX-License-Identifier: Apache-2.0
"""Weights of objectives where the encoder ends: forward nothing, backward a factor per utterance.

One ordinary backward pass then gives shared parameters the weighted direction and heads their
unweighted gradients, whoever runs it (DistributedDataParallel, AMP, accumulation).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class GradientScale:
    """Factors of objectives, switched on for the backward pass that updates parameters.

    Attributes:
        factors: (K,) on the model's device.
        active: whether backward passes are scaled. Passes that measure gradients are not.
        inputs: encoder outputs that heads were given within `noting_inputs`, each once.
    """

    def __init__(self, factors: Tensor) -> None:
        self.factors = factors
        self.active = False
        self.inputs: list[Tensor] = []
        self._notes = False

    @contextmanager
    def noting_inputs(self, wanted: bool) -> Iterator[None]:
        """Within it, `inputs` are kept if they are wanted; they hold the graph."""
        self.inputs, self._notes = [], wanted
        try:
            yield
        finally:
            self._notes = False

    def note(self, h: Tensor) -> None:
        """Keep an encoder output."""
        if self._notes and not any(known is h for known in self.inputs):
            self.inputs.append(h)

    def take_inputs(self) -> list[Tensor]:
        """Hand over the noted inputs, and forget them."""
        taken, self.inputs = self.inputs, []
        return taken


class _ScaleRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, index: Tensor, scale: GradientScale) -> Tensor:
        ctx.save_for_backward(index)
        ctx.scale = scale
        return h.view_as(h)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        if not ctx.scale.active:
            return cotangent, None, None
        (index,) = ctx.saved_tensors
        factors = ctx.scale.factors.to(cotangent)[index.clamp(min=0)]
        # Rows without an objective carry no gradient; a factor of one keeps even a NaN visible.
        factors = torch.where(index >= 0, factors, 1.0)
        return cotangent * factors.view(-1, *[1] * (cotangent.dim() - 1)), None, None


def scale_gradient(h: Tensor, index: Tensor, scale: GradientScale) -> Tensor:
    """Put the node between the encoder and a head.

    Args:
        h: (B, T, D) encoder output.
        index: (B,) objective of each utterance for the head's task, -1 for none.
        scale: factors.

    Returns:
        `h` itself, as far as values are concerned.
    """
    scale.note(h)
    return _ScaleRows.apply(h, index, scale)
