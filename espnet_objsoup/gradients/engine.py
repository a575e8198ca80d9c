# SPDX-License-Identifier: Apache-2.0
"""How gradients of objectives are measured: engines by name."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_objsoup.gradients.layers import Layer
from espnet_objsoup.gradients.products import Products, concatenate
from espnet_objsoup.gradients.reference import reference_statistic
from espnet_objsoup.gradients.rules import Block, Factors, Rows, mixes_utterances
from espnet_objsoup.gradients.statistic import GramianStatistic, common_counts
from espnet_objsoup.gradients.taps import Call, Recorder, plan


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


class GradientEngine(ABC):
    """Measures the Gramian of objectives in chosen layers.

    Args:
        layers: of the model.
        n_objectives: K.
    """

    def __init__(self, layers: Sequence[Layer], n_objectives: int) -> None:
        self.layers = list(layers)
        self.n_objectives = n_objectives

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
        )


@dataclass(frozen=True)
class Frontier:
    """How far down a task's cotangents have come.

    Attributes:
        outputs: tensors that have been reached.
        cotangents: of these; None for a loss.
    """

    outputs: Sequence[Tensor]
    cotangents: Sequence[Tensor] | None

    def go_down(
        self, calls: Sequence[Call], ends: Sequence[Tensor]
    ) -> tuple[list[Tensor | None], "Frontier"]:
        """Cotangents of calls' outputs (None: does not depend), and the frontier at `ends`."""
        if not self.outputs:
            return [None] * len(calls), self
        found = torch.autograd.grad(
            self.outputs,
            [*(call.output for call in calls), *ends],
            self.cotangents,
            retain_graph=True,
            allow_unused=True,
        )
        reached = [
            (end, cotangent)
            for end, cotangent in zip(ends, found[len(calls) :], strict=True)
            if cotangent is not None
        ]
        frontier = Frontier([end for end, _ in reached], [cotangent for _, cotangent in reached])
        return list(found[: len(calls)]), frontier


class GroupedEngine(GradientEngine):
    """One pass per task, for cotangents of modules' outputs only.

    If nothing in the network mixes utterances, the rows of these cotangents belong each to one
    objective; with the modules' inputs they give the gradients of all utterances at once. Only
    inner products are kept.

    Modules without a rule fall back to the reference for their parameters; a warning names them.

    Args:
        layers: of the model.
        n_objectives: K.
        sequential: whether each layer's output is all that the loss knows of it and of the layers
            below. Then the cotangents of one layer at a time are held.
    """

    def __init__(
        self, layers: Sequence[Layer], n_objectives: int, sequential: bool = False
    ) -> None:
        super().__init__(layers, n_objectives)
        self.sequential = sequential
        self.plans = [plan(layer) for layer in layers]
        self.recorder = Recorder()
        missing = [name for taps in self.plans for name in taps.without_rule]
        if missing:
            logging.warning(
                "gradient_engine grouped: no rule for %s; their gradients are measured utterance "
                "by utterance, which is slow (register_rule adds a rule)",
                ", ".join(missing),
            )
        mixing = [
            f"{layer.name}.{name}"
            for layer in layers
            for name, module in layer.module.named_modules()
            if mixes_utterances(module)
        ]
        if mixing:
            logging.warning(
                "%s mix utterances of a batch: their gradients are measured as if the statistics "
                "of the batch were constant. Use an encoder without BatchNorm (e_branchformer), or "
                "gradient_engine: reference to measure them as they are",
                ", ".join(mixing),
            )

    @contextmanager
    def recording(self, layers: Sequence[int]) -> Iterator[None]:
        """As GradientEngine."""
        with self.recorder.recording([(i, self.layers[i], self.plans[i]) for i in layers]):
            yield

    def measure(
        self, batch: TaskLosses, layers: Sequence[int], scale: float = 1.0
    ) -> GramianStatistic:
        """As GradientEngine.

        Raises:
            MeasureError: if the modules' calls were not recorded, or cannot be told apart by
                utterance.
        """
        tasks = {task: index for task, index in batch.index.items() if bool((index >= 0).any())}
        device = next(iter(batch.losses.values())).device
        sums = {i: Products(tasks, self.n_objectives, device) for i in layers}
        calls, boundaries = self.recorder.take()
        self._check(calls, layers, len(next(iter(batch.losses.values()))))
        frontiers = {task: Frontier([batch.losses[task].sum() * scale], None) for task in tasks}
        for part, below in self._parts(layers):
            of_part = [call for call in calls if call.layer in part]
            ends = [tensor for i in below for tensor in boundaries[i]]
            cotangents = {}
            for task in list(frontiers):
                cotangents[task], frontiers[task] = frontiers[task].go_down(of_part, ends)
            for positions in _by_key(of_part):
                self._add_parameter(of_part, positions, cotangents, sums, scale)
        common = common_counts(batch.index, self.n_objectives)
        statistic = GramianStatistic.from_sums(
            torch.stack([sums[i].grams for i in layers]),
            torch.stack([sums[i].own for i in layers]),
            torch.diagonal(common),
            common,
        )
        return self._with_others(statistic, batch, layers, scale)

    def _parts(self, layers: Sequence[int]) -> list[tuple[list[int], list[int]]]:
        """Layers whose cotangents are held at the same time, and those that come next below.

        Blocks of an encoder follow one another, so that one after the other can be gone through
        from the top; layers chosen by a pattern may stand side by side.
        """
        if not self.sequential:
            return [(list(layers), [])]
        ordered = sorted(layers, reverse=True)
        return [([i], ordered[n + 1 : n + 2]) for n, i in enumerate(ordered)]

    def _check(self, calls: Sequence[Call], layers: Sequence[int], batch_size: int) -> None:
        recorded = {call.layer for call in calls}
        lost = [self.layers[i].name for i in layers if self.plans[i].modules and i not in recorded]
        if lost:
            raise MeasureError(
                f"gradient_engine grouped: expected calls of {', '.join(lost)} in the forward "
                "pass, found none with a gradient (re-entrant activation checkpointing, or a "
                "compiled encoder); use gradient_engine: reference"
            )
        for call in calls:
            if call.output.size(0) != batch_size:
                raise MeasureError(
                    f"gradient_engine grouped: {self.layers[call.layer].name}: expected a module's "
                    f"output with one row per utterance ({batch_size}), found "
                    f"{tuple(call.output.shape)}; use gradient_engine: reference"
                )
            if call.output._version != call.version:
                raise MeasureError(
                    f"gradient_engine grouped: {self.layers[call.layer].name}: the output of a "
                    f"{type(call.module).__name__} is changed in place afterwards; use "
                    "gradient_engine: reference, or other layers (layers.pattern)"
                )

    def _add_parameter(
        self,
        calls: Sequence[Call],
        positions: Sequence[int],
        cotangents: Mapping[str, list[Tensor | None]],
        sums: Mapping[int, Products],
        scale: float,
    ) -> None:
        """Add the parameters of one module, from all its calls and all tasks."""
        by_parameter: dict[int, dict[str, list[Block]]] = {}
        for task, of_task in cotangents.items():
            for position in positions:
                g, of_task[position] = of_task[position], None  # freed as they are consumed
                if g is None:
                    continue
                for i, block in enumerate(_blocks(calls[position], g, scale)):
                    by_parameter.setdefault(i, {}).setdefault(task, []).append(block)
        products = sums[calls[positions[0]].layer]
        for of_tasks in by_parameter.values():
            blocks = {task: concatenate(parts) for task, parts in of_tasks.items()}
            if isinstance(next(iter(blocks.values())), Factors):
                products.add_factors(blocks)
            else:
                products.add_rows(blocks)

    def _with_others(
        self, statistic: GramianStatistic, batch: TaskLosses, layers: Sequence[int], scale: float
    ) -> GramianStatistic:
        """Add parameters without a rule, by the reference."""
        others = [self.plans[i].others for i in layers]
        if not any(others):
            return statistic
        rows = [n for n, parameters in enumerate(others) if parameters]
        slow = reference_statistic(
            batch.losses, batch.index, [others[n] for n in rows], self.n_objectives, scale
        )
        statistic.numerators[rows] += slow.numerators
        statistic.mean_norms2[rows] += slow.mean_norms2
        return statistic


def _by_key(calls: Sequence[Call]) -> list[list[int]]:
    """Positions of the calls that belong to one module or parameter."""
    groups: dict[int, list[int]] = {}
    for position, call in enumerate(calls):
        groups.setdefault(call.key, []).append(position)
    return list(groups.values())


def _blocks(call: Call, g: Tensor, scale: float) -> list[Block]:
    """Blocks of a call, in single precision's range: the scale is divided out first."""
    if scale != 1.0:
        g = g.to(torch.promote_types(g.dtype, torch.float32)) / scale
    if call.module is None:
        return [Rows(g.flatten(1))]
    return call.rule(call.module, call.x, g)


ENGINES: dict[str, type[GradientEngine]] = {
    "grouped": GroupedEngine,
    "reference": ReferenceEngine,
}


def make_engine(
    name: str, layers: Sequence[Layer], n_objectives: int, sequential: bool
) -> GradientEngine:
    """An engine by its name in `trainer_conf.gradient_engine`.

    Args:
        name: `grouped` or `reference`.
        layers: of the model.
        n_objectives: K.
        sequential: as for GroupedEngine.
    """
    if name == "grouped":
        return GroupedEngine(layers, n_objectives, sequential)
    return ENGINES[name](layers, n_objectives)
