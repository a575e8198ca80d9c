# SPDX-License-Identifier: Apache-2.0
"""Running means of the objectives' losses."""

from typing import Any

import torch
from torch import Tensor


class LossMeans:
    """Moving average of every objective's loss over the refreshes in which it occurred.

    Args:
        decay: (K,) float64 of the averages.

    Attributes:
        sums: (K,) float64 decayed sums.
        weights: (K,) float64 decayed weights; 0 if never present.
    """

    def __init__(self, decay: Tensor) -> None:
        self.decay = decay
        self.sums = torch.zeros_like(decay)
        self.weights = torch.zeros_like(decay)

    def mean(self) -> Tensor:
        """(K,) float64, NaN where an objective has never been present."""
        return self.sums / self.weights

    def fill(self, losses: Tensor, present: Tensor) -> Tensor:
        """(K,) losses, the running mean (or NaN) where an objective is absent."""
        return torch.where(present, losses.double(), self.mean())

    def update(self, losses: Tensor, present: Tensor) -> None:
        """Fold in the losses (K,) of the objectives that are present (K,) bool."""
        keep = torch.where(present, self.decay, 1.0)
        add = torch.where(present, 1.0 - self.decay, 0.0)
        self.sums = keep * self.sums + add * torch.where(present, losses.double(), 0.0)
        self.weights = keep * self.weights + add

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors."""
        return {"sums": self.sums.clone(), "weights": self.weights.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.sums, self.weights = state["sums"].cpu().clone(), state["weights"].cpu().clone()
