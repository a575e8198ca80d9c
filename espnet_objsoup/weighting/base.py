# SPDX-License-Identifier: Apache-2.0
"""What a weighting sees and what it has to do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Weights whose sum nearly cancels would be blown up by dividing by it.
MIN_NET_SHARE = 0.1


@dataclass(frozen=True)
class WeightingInput:
    """A finished refresh, restricted to the n objectives of a level.

    Attributes:
        step: (n, n) float64 unbiased Gramian of this refresh, divided by the running mean of
            its diagonal, or, with `matrix: cosines`, by the running lengths of both gradients, its
            diagonal being 1; pairs that did not occur come from the running estimate.
        running: (n, n) float64 running Gramian, positive semi-definite, divided likewise.
        sample_size: refreshes that the worst known entry of `running` is worth; 0 if a diagonal
            entry is unknown.
        losses: (n,) float64 mean loss of each objective in this refresh, the running mean where it
            is absent; NaN if it has never been present.
        present: (n,) bool.
        interval: steps since the last refresh.
        epoch: from 1.
    """

    step: Tensor
    running: Tensor
    sample_size: float
    losses: Tensor
    present: Tensor
    interval: int
    epoch: int


class Weighting(ABC):
    """Weights of a level's objectives.

    Args:
        objectives: of the level.
        conf: all options of the weighting.
    """

    def __init__(self, objectives: tuple[str, ...], conf: Mapping[str, Any]) -> None:
        self.objectives = objectives
        self.conf = conf

    @abstractmethod
    def update(self, inputs: WeightingInput, weights: Tensor) -> Tensor | None:
        """Weights for the next steps.

        Args:
            inputs: the finished refresh.
            weights: (n,) float64 weights so far.

        Returns:
            (n,) float64, not necessarily normalised; None to keep the weights.
        """

    def initial(self) -> Tensor:
        """(n,) float64 weights before the first refresh: uniform."""
        n = len(self.objectives)
        return torch.full((n,), 1.0 / n, dtype=torch.float64)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers; empty for a weighting without memory."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        if state:
            raise ValueError(f"{type(self).__name__}: has no memory, found {', '.join(state)}")


def accept(
    proposed: Tensor | None, weights: Tensor, present: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, bool]:
    """Normalise a weighting's answer; absent objectives keep their weight.

    Args:
        proposed: (n,) answer of a weighting, None to keep.
        weights: (n,) weights so far, sum 1.
        present: (n,) bool.
        smoothing: weight of the weights so far (CR-MOGM, Zhou et al., NeurIPS 2022).

    Returns:
        (n,) weights with sum 1, and whether the answer was usable: it is not if it holds NaN, or
        positive and negative weights that nearly cancel.
    """
    if proposed is None or not present.any():
        return weights, True
    share = torch.where(present, proposed, 0.0)
    total = share.sum()
    if not proposed.isfinite().all() or not total > MIN_NET_SHARE * share.abs().sum():
        return weights, False
    left = 1.0 - weights[~present].sum()
    if left <= 0.0:  # a weighting with negative weights gave more than all to those now absent
        return weights, False
    fresh = torch.where(present, share / total * left, weights)
    return smoothing * weights + (1.0 - smoothing) * fresh, True
