# SPDX-License-Identifier: Apache-2.0
"""State of a soup and how it gets into ESPnet's checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

FORMAT_VERSION = 1
# The running mean follows the last steps with this weight once there are enough of them.
MIN_MOMENTUM = 1e-3
# An objective that has hardly been seen yet must not be blown up when it appears.
MIN_EXPECTED_COUNT = 0.1


class SoupStateError(ValueError):
    """A checkpoint's state does not belong to this configuration."""


class SoupState:
    """What training remembers between steps, as plain tensors and numbers.

    Attributes:
        objectives: names, in the order of all tensors.
        expected_counts: (K,) float64 running mean of the utterances per step, over all ranks and
            micro-batches; zeros before the first step.
        steps: optimiser steps seen.
        pending_counts: (K,) int64 utterances of the step that is being accumulated.
        known_counts: (K,) float64 expected utterances per step as the sampler knows them, NaN where
            it does not; not saved, since it follows from data and options.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self.objectives = tuple(objectives)
        self.expected_counts = torch.zeros(len(self.objectives), dtype=torch.float64)
        self.steps = 0
        self.pending_counts = torch.zeros(len(self.objectives), dtype=torch.long)
        self.known_counts = torch.full((len(self.objectives),), torch.nan, dtype=torch.float64)

    def know(self, per_batch: Mapping[str, float], micro_batches: int) -> None:
        """Take over the sampler's expected counts.

        Args:
            per_batch: objective -> expected utterances in a micro-batch over all ranks.
            micro_batches: micro-batches per step.
        """
        known = [per_batch.get(name, torch.nan) * micro_batches for name in self.objectives]
        self.known_counts = torch.tensor(known, dtype=torch.float64)

    def divisor(self, counts: Tensor, micro_batches: int) -> Tensor:
        """Expected utterances per step, by which sums of losses are divided.

        Args:
            counts: (K,) utterances of the current micro-batch on all ranks; they stand in for a
                history before the first step.
            micro_batches: micro-batches per step.

        Returns:
            (K,) float64, >= MIN_EXPECTED_COUNT.
        """
        if self.steps == 0:
            expected = counts.double().cpu() * micro_batches
        else:
            expected = self.expected_counts
        expected = torch.where(self.known_counts.isnan(), expected, self.known_counts)
        return expected.clamp(min=MIN_EXPECTED_COUNT)

    def add(self, counts: Tensor) -> None:
        """Count (K,) utterances of a micro-batch, all ranks together."""
        self.pending_counts = self.pending_counts + counts.cpu()

    def drop_pending(self) -> None:
        """Forget the counts of a step that will not be taken."""
        self.pending_counts = torch.zeros_like(self.pending_counts)

    def end_step(self) -> None:
        """Fold the finished step into the running mean."""
        self.steps += 1
        momentum = max(1.0 / self.steps, MIN_MOMENTUM)
        self.expected_counts += momentum * (self.pending_counts.double() - self.expected_counts)
        self.drop_pending()

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors, numbers and strings, readable with `weights_only=True`."""
        return {
            "version": FORMAT_VERSION,
            "objectives": list(self.objectives),
            "expected_counts": self.expected_counts.clone(),
            "steps": self.steps,
            "pending_counts": self.pending_counts.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            SoupStateError: if it was written for other objectives or by another format.
        """
        if state.get("version") != FORMAT_VERSION:
            raise SoupStateError(
                f"soup state: expected format {FORMAT_VERSION}, found {state.get('version')}"
            )
        if tuple(state["objectives"]) != self.objectives:
            raise SoupStateError(
                f"soup state: the checkpoint has objectives {', '.join(state['objectives'])}, the "
                f"configuration {', '.join(self.objectives)}; train with the same objectives, or "
                "into another output directory with --init_param"
            )
        self.expected_counts = state["expected_counts"].cpu().clone()
        self.steps = int(state["steps"])
        self.pending_counts = state["pending_counts"].cpu().clone()


class StateCarrier(torch.optim.Optimizer):
    """An optimiser that optimises nothing and saves a SoupState.

    ESPnet's checkpoint holds the model, the optimisers, the schedulers and nothing else. The
    model's buffers would be averaged over epochs and published; an extra optimiser is saved and
    restored as it is.
    """

    def __init__(self, state: SoupState) -> None:
        parameter = torch.nn.Parameter(torch.zeros(()), requires_grad=False)
        super().__init__([parameter], {})
        self.soup_state = state
        self.restored = False

    def step(self, closure: Any = None) -> None:
        """Nothing to optimise."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing to clear."""

    def state_dict(self) -> dict[str, Any]:
        """The soup's state."""
        return {"soup": self.soup_state.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the soup's state.

        Raises:
            SoupStateError: if it does not fit, or the checkpoint holds another optimiser here.
        """
        if "soup" not in state_dict:
            raise SoupStateError(
                "soup state: the checkpoint has an optimiser in its place; it was written with "
                "another number of optimisers"
            )
        self.soup_state.load_state_dict(state_dict["soup"])
        self.restored = True
