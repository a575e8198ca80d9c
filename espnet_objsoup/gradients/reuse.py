# SPDX-License-Identifier: Apache-2.0
"""Gradients that measuring has already found, handed to the step's own backward pass.

Cotangents are linear in the losses. Above the lowest measured layer the step's gradients are sums,
with the soup's coefficients, of what the measuring passes found; only what lies below is left to
do. A node whose backward returns the ready gradients keeps the step at one ordinary `backward()`,
so that DistributedDataParallel sees every parameter once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espnet_objsoup.gradients.products import Membership


@dataclass(frozen=True)
class StepLoss:
    """The scalar whose backward pass follows measuring.

    Attributes:
        loss: with graph; a function of the utterances' losses alone.
        head_inputs: (B, T, D) each, where the shared part of the model ends.
        factors: (K,) by which gradients of an objective are multiplied there.
    """

    loss: Tensor
    head_inputs: Sequence[Tensor]
    factors: Tensor

    def row_weights(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Task -> (B,) derivative of the scalar by each utterance's loss.

        Args:
            losses: task -> (B,).

        Returns:
            Without tasks of which nothing is trained; None if the scalar lacks one of the others.
        """
        trained = {task: loss for task, loss in losses.items() if loss.requires_grad}
        if not trained:
            return {}
        found = torch.autograd.grad(
            self.loss, list(trained.values()), retain_graph=True, allow_unused=True
        )
        if any(weights is None for weights in found):
            return None
        return dict(zip(trained, found, strict=True))


def objective_weights(rows: Mapping[str, Tensor], membership: Membership) -> Tensor | None:
    """(K,) float64 on the CPU: the weight that all utterances of an objective have in common.

    Args:
        rows: task -> (B,) weights of utterances.
        membership: of the batch.

    Returns:
        1 for absent objectives. None if an objective's utterances have different weights, or one
        that cannot be divided out again.
    """
    weights = torch.ones(membership.n_objectives, dtype=torch.float64)
    for task in rows:
        of_rows = membership.columns[task]
        column, of_task = torch.tensor(of_rows), rows[task].detach().double().cpu()
        valid = column >= 0
        column, of_task = column[valid], of_task[valid]
        weights[column] = of_task
        if not bool(((weights[column] == of_task) & (of_task > 0) & of_task.isfinite()).all()):
            return None
    return weights


@dataclass
class ReadyGradients:
    """What a backward pass needs not find out any more.

    Attributes:
        scale: that `cotangents` are multiplied by, against underflow in half precision.
        gradients: parameter -> its gradient.
        ends: tensors from which the backward pass goes on.
        cotangents: of these.
    """

    scale: float = 1.0
    gradients: dict[Tensor, Tensor] = field(default_factory=dict)
    ends: list[Tensor] = field(default_factory=list)
    cotangents: list[Tensor] = field(default_factory=list)

    def add(self, parameter: Tensor, gradient: Tensor) -> None:
        """Add to a parameter's gradient; any shape with its numbers in its order."""
        gradient = gradient.reshape(parameter.shape).to(parameter.dtype)
        if parameter in self.gradients:
            gradient = self.gradients[parameter] + gradient
        self.gradients[parameter] = gradient

    def add_end(self, end: Tensor, cotangent: Tensor) -> None:
        """Add to the cotangent of a tensor from which the backward pass goes on."""
        for i, known in enumerate(self.ends):
            if known is end:
                self.cotangents[i] = self.cotangents[i] + cotangent
                return
        self.ends.append(end)
        self.cotangents.append(cotangent)

    def attach(self, loss: Tensor) -> Tensor:
        """The same scalar, whose backward pass takes what is ready and goes on from `ends`."""
        return _Ready.apply(loss.detach(), self, *self.ends, *self.gradients)


class _Ready(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, ready: ReadyGradients, *inputs: Tensor) -> Tensor:
        ctx.ready = ready
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        ready = ctx.ready
        # Given away: what is added to `.grad` need not be copied.
        cotangents, ready.cotangents = ready.cotangents, []
        gradients, ready.gradients = _separate(ready.gradients.values()), {}
        ctx.ready = None
        return (
            None,
            None,
            *_times(cotangents, factor / ready.scale),
            *_times(gradients, factor),
        )


def _separate(gradients: Iterable[Tensor]) -> list[Tensor]:
    """Gradients with a storage each.

    Autograd gives one tensor to both terms of a sum. As `.grad` of two parameters it would be
    clipped, or divided by the scale of half precision, twice.
    """
    seen: set[int] = set()
    found = []
    for gradient in gradients:
        storage = gradient.untyped_storage().data_ptr()
        found.append(gradient.clone() if storage in seen else gradient)
        seen.add(storage)
    return found


def _times(values: Sequence[Tensor], factor: Tensor) -> list[Tensor]:
    if factor.device.type == "cpu" and float(factor) == 1.0:
        return list(values)
    return [value * factor.to(value.dtype) for value in values]
