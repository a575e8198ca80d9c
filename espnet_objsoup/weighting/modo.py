# SPDX-License-Identifier: Apache-2.0
"""MoDo, and weightings that compute nothing."""

import torch
from torch import Tensor

from espnet_objsoup.weighting.base import Weighting, WeightingInput


def project_onto_simplex(point: Tensor, total: float | Tensor = 1.0) -> Tensor:
    """Nearest point with entries >= 0 that sum to `total`.

    Args:
        point: (n,).
        total: > 0.

    Returns:
        (n,).

    Source: Held, Wolfe, Crowder 1974; Duchi et al., ICML 2008, figure 1.
    """
    ordered = point.sort(descending=True).values
    excess = ordered.cumsum(0) - total
    ranks = torch.arange(1, len(point) + 1, dtype=point.dtype)
    support = int((ordered * ranks > excess).sum())
    return (point - excess[support - 1] / support).clamp(min=0.0)


class MoDo(Weighting):
    """w <- Proj_simplex(w - gamma * (G w + rho * w)), with the unbiased G of one refresh.

    Absent objectives keep their weight; the others are projected onto the simplex scaled to what
    is left. `gamma` is for one step and multiplied by the steps between refreshes.

    Source: Chen, Fernando, Ying, Chen, JMLR 2024, eq. 2.9b.
    """

    def update(self, inputs: WeightingInput, weights: Tensor) -> Tensor | None:
        """See the class."""
        present = inputs.present
        left = 1.0 - weights[~present].sum()
        if not present.any() or left <= 0:
            return None
        gamma = self.conf["gamma"] * inputs.interval
        moved = weights - gamma * (inputs.step @ weights + self.conf["rho"] * weights)
        updated = weights.clone()
        updated[present] = project_onto_simplex(moved[present], left)
        return updated


class Uniform(Weighting):
    """The plain average."""

    def update(self, inputs: WeightingInput, weights: Tensor) -> Tensor | None:
        """Keeps the weights."""
        return None


class Static(Weighting):
    """Configured weights."""

    def initial(self) -> Tensor:
        """(n,) float64 as configured."""
        weights = [float(self.conf["weights"][name]) for name in self.objectives]
        return torch.tensor(weights, dtype=torch.float64)

    def update(self, inputs: WeightingInput, weights: Tensor) -> Tensor | None:
        """Keeps the weights."""
        return None
