# SPDX-License-Identifier: Apache-2.0
"""Coefficients of levels during training."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from espnet_objsoup.objectives.levels import LevelSpec
from espnet_objsoup.objectives.table import level_coefficients
from espnet_objsoup.weighting.barrier import solve_barrier


class LevelPenalties:
    """Coefficients of a soup's levels, scheduled or found by the barrier.

    Args:
        levels: top first.

    Attributes:
        coefficients: (J,) float64; with a barrier 1 for all until its first solution.
        solved: refreshes in which the barrier was solved.
        capped: (J-1,) int64 how often a coefficient was cut at eta_max.
        dropped: (J-1,) int64 how often a constraint could not be met together with lower ones.
    """

    def __init__(self, levels: Sequence[LevelSpec]) -> None:
        self.levels = tuple(levels)
        self.is_barrier = any(level.penalty == "barrier" for level in levels)
        self.coefficients = torch.ones(len(levels), dtype=torch.float64)
        self.solved = 0
        self.capped = torch.zeros(len(levels) - 1, dtype=torch.long)
        self.dropped = torch.zeros(len(levels) - 1, dtype=torch.long)
        if self.is_barrier:
            # Levels on a par is the counterpart of uniform weights before anything is known.
            self.coefficients[1:] = self._option("eta_max").clamp(max=1.0)
            target = [level.penalty_conf["target"] for level in levels[1:]]
            self.targets = [float("nan") if value is None else value for value in target]
        self.begin_epoch(1)

    def begin_epoch(self, epoch: int) -> None:
        """Take the schedule's coefficients of an epoch, from 1; nothing for a barrier."""
        if not self.is_barrier:
            self.coefficients = torch.tensor(
                level_coefficients(self.levels, epoch), dtype=torch.float64
            )

    def solve(self, matrix: Tensor, losses: Tensor, references: Tensor, scale: float = 1.0) -> None:
        """Find the barrier's coefficients.

        Args:
            matrix: (J, J) products of the levels' vectors, positive semi-definite.
            losses: (J,) of the levels.
            references: (J,) their running means; a configured target takes precedence. NaN, for a
                level that has never been present, demands nothing.
            scale: by which `matrix` has been divided; gaps between losses are divided likewise, so
                that the solution does not depend on it.
        """
        targets = torch.tensor(self.targets, dtype=torch.float64)
        references = torch.where(targets.isnan(), references[1:], targets)
        gaps = (losses[1:] - references).nan_to_num(nan=0.0) / scale
        norms2 = matrix.diagonal()[1:]
        phi = torch.minimum(self._option("alpha") * gaps, self._option("beta") * norms2)
        solution = solve_barrier(matrix.numpy(), phi.numpy(), self._option("eta_max").numpy())
        self.coefficients = torch.cat(
            [torch.ones(1, dtype=torch.float64), torch.from_numpy(solution.coefficients)]
        )
        self.solved += 1
        self._count(self.capped, solution.capped, "was cut at eta_max")
        self._count(self.dropped, solution.dropped, "contradicts lower levels and was dropped")

    def _count(self, counts: Tensor, happened: Any, what: str) -> None:
        for i in happened.nonzero()[0].tolist():
            if counts[i] == 0:
                logging.info("barrier: the constraint of level %d %s (first time)", i + 2, what)
            counts[i] += 1

    def _option(self, name: str) -> Tensor:
        values = [float(level.penalty_conf[name]) for level in self.levels[1:]]
        return torch.tensor(values, dtype=torch.float64)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            "coefficients": self.coefficients.clone(),
            "solved": self.solved,
            "capped": self.capped.clone(),
            "dropped": self.dropped.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.coefficients = state["coefficients"].cpu().clone()
        self.solved = state["solved"]
        self.capped = state["capped"].cpu().clone()
        self.dropped = state["dropped"].cpu().clone()
