# SPDX-License-Identifier: Apache-2.0
"""What engines measure, and the slow one that is right for every module."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_objsoup.gradients.layers import Layer
from espnet_objsoup.gradients.reference import reference_statistic
from espnet_objsoup.gradients.reuse import ReadyGradients, StepLoss
from espnet_objsoup.gradients.statistic import GramianStatistic


class MeasureError(RuntimeError):
    """Gradients of a model cannot be measured by an engine."""


@dataclass(frozen=True)
class TaskLosses:
    """Losses of a micro-batch.

    Attributes:
        losses: task -> (B,) loss of each utterance, with graph.
        index: task -> (B,) objective of each utterance, -1 for none.
    """

    losses: Mapping[str, Tensor]
    index: Mapping[str, Tensor]

    @property
    def size(self) -> int:
        """B."""
        return len(next(iter(self.losses.values())))

    @property
    def device(self) -> torch.device:
        """Of the losses."""
        return next(iter(self.losses.values())).device


class GradientEngine(ABC):
    """Measures the Gramian of objectives in chosen layers.

    Args:
        layers: of the model.
        n_objectives: K.
        unbiased: leave out pairs of an utterance with itself, which the expected gradients'
            Gramian does not have.
    """

    def __init__(self, layers: Sequence[Layer], n_objectives: int, unbiased: bool = True) -> None:
        self.layers = list(layers)
        self.n_objectives = n_objectives
        self.unbiased = unbiased

    @contextmanager
    def recording(self, layers: Sequence[int]) -> Iterator[None]:
        """Must surround the forward pass whose gradients are measured.

        Args:
            layers: indices of those to measure; empty: nothing is recorded.
        """
        yield

    @abstractmethod
    def measure(
        self, batch: TaskLosses, layers: Sequence[int], scale: float = 1.0
    ) -> GramianStatistic:
        """Sums of one micro-batch; graphs are kept for the step's own backward pass.

        Args:
            batch: losses of the forward pass.
            layers: indices of those to measure, as for `recording`.
            scale: factor on the losses during backward passes, against underflow in half
                precision; divided out again.
        """

    def measure_and_reuse(
        self, batch: TaskLosses, layers: Sequence[int], step: StepLoss, scale: float = 1.0
    ) -> tuple[GramianStatistic, ReadyGradients | None]:
        """As `measure`, and what the step's backward pass need not do again, if there is any.

        Args:
            batch, layers, scale: as for `measure`.
            step: the scalar whose backward pass follows.

        Returns:
            The sums, and gradients of the scalar to be attached to it. Where there are any, parts
            of the graph are freed: only the attached scalar can be differentiated any more.
        """
        return self.measure(batch, layers, scale), None

    def forget(self) -> None:  # noqa: B027 (nothing to forget where nothing is recorded)
        """Let go of a forward pass that is not measured after all."""


class ReferenceEngine(GradientEngine):
    """One `torch.autograd.grad` per utterance and task: slow, and right for every module."""

    def measure(
        self, batch: TaskLosses, layers: Sequence[int], scale: float = 1.0
    ) -> GramianStatistic:
        """As GradientEngine."""
        return reference_statistic(
            batch.losses,
            batch.index,
            [self.layers[i].parameters for i in layers],
            self.n_objectives,
            scale,
            self.unbiased,
        )
