# SPDX-License-Identifier: Apache-2.0
"""How many utterances of each objective a step holds, and how state gets into checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

# The running mean follows the last steps with this weight once there are enough of them.
MIN_MOMENTUM = 1e-3
# An objective that is hardly ever there must not be blown up when it appears: its expected number
# counts as at least this, and as at least this share of the utterances at hand.
MIN_EXPECTED_COUNT = 0.1
MIN_EXPECTED_SHARE = 0.1


class SoupStateError(ValueError):
    """A checkpoint's state does not belong to this configuration."""


class ExpectedCounts:
    """Expected utterances per step, by which an objective's sum of losses is divided.

    Attributes:
        objectives: names, in the order of all tensors.
        mean: (K,) float64 running mean of the utterances per step, over all ranks and
            micro-batches; zeros before the first step.
        steps: optimiser steps seen.
        pending: (K,) int64 utterances of the step that is being accumulated.
        known: (K,) float64 expected utterances per step as the sampler knows them, NaN where it
            does not; not saved, since it follows from data and options.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self.objectives = tuple(objectives)
        self.mean = torch.zeros(len(self.objectives), dtype=torch.float64)
        self.steps = 0
        self.pending = torch.zeros(len(self.objectives), dtype=torch.long)
        self.known = torch.full((len(self.objectives),), torch.nan, dtype=torch.float64)

    def know(self, per_batch: Mapping[str, float], micro_batches: int) -> None:
        """Take over the sampler's expected counts.

        Args:
            per_batch: objective -> expected utterances in a micro-batch over all ranks.
            micro_batches: micro-batches per step.
        """
        known = [per_batch.get(name, torch.nan) * micro_batches for name in self.objectives]
        self.known = torch.tensor(known, dtype=torch.float64)

    def divisor(self, counts: Tensor, micro_batches: int) -> Tensor:
        """Expected utterances per step, by which sums of losses are divided.

        Args:
            counts: (K,) utterances of the current micro-batch on all ranks; they stand in for a
                history before the first step, and bound the weight of a rare objective.
            micro_batches: micro-batches per step.

        Returns:
            (K,) float64, >= MIN_EXPECTED_COUNT.
        """
        at_hand = counts.double().cpu() * micro_batches
        expected = at_hand if self.steps == 0 else self.mean
        expected = torch.where(self.known.isnan(), expected, self.known)
        expected = torch.maximum(expected, MIN_EXPECTED_SHARE * at_hand)
        return expected.clamp(min=MIN_EXPECTED_COUNT)

    def add(self, counts: Tensor) -> None:
        """Count (K,) utterances of a micro-batch, all ranks together."""
        self.pending = self.pending + counts.cpu()

    def drop_pending(self) -> None:
        """Forget the counts of a step that will not be taken."""
        self.pending = torch.zeros_like(self.pending)

    def end_step(self) -> None:
        """Fold the finished step into the running mean."""
        self.steps += 1
        momentum = max(1.0 / self.steps, MIN_MOMENTUM)
        self.mean += momentum * (self.pending.double() - self.mean)
        self.drop_pending()

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {"mean": self.mean.clone(), "steps": self.steps, "pending": self.pending.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.mean = state["mean"].cpu().clone()
        self.steps = int(state["steps"])
        self.pending = state["pending"].cpu().clone()


class Saveable(Protocol):
    """What a StateCarrier carries: plain state that `weights_only=True` reads."""

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors, numbers and strings."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""


class StateCarrier(torch.optim.Optimizer):
    """An optimiser that optimises nothing and saves a soup's state.

    ESPnet's checkpoint holds the model, the optimisers, the schedulers and nothing else. The
    model's buffers would be averaged over epochs and published; an extra optimiser is saved and
    restored as it is.
    """

    def __init__(self, content: Saveable) -> None:
        parameter = torch.nn.Parameter(torch.zeros(()), requires_grad=False)
        super().__init__([parameter], {})
        self.content = content
        self.restored = False

    def step(self, closure: Any = None) -> None:
        """Nothing to optimise."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing to clear."""

    def state_dict(self) -> dict[str, Any]:
        """The soup's state."""
        return {"soup": self.content.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the soup's state.

        Raises:
            ValueError: if it does not fit, or the checkpoint holds another optimiser here.
        """
        if "soup" not in state_dict:
            raise SoupStateError(
                "soup state: the checkpoint has an optimiser in its place; it was written with "
                "another number of optimisers"
            )
        self.content.load_state_dict(state_dict["soup"])
        self.restored = True
