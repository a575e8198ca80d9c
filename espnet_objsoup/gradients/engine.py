# SPDX-License-Identifier: Apache-2.0
"""How gradients of objectives are measured: engines by name."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from espnet_objsoup.gradients.frontier import Frontier, Piece, blocks_by_parameter, by_key
from espnet_objsoup.gradients.graph import reach
from espnet_objsoup.gradients.layers import Layer
from espnet_objsoup.gradients.products import Membership, Products
from espnet_objsoup.gradients.reference import reference_statistic
from espnet_objsoup.gradients.reuse import ReadyGradients, StepLoss
from espnet_objsoup.gradients.rules import mixes_utterances
from espnet_objsoup.gradients.statistic import GramianStatistic, common_counts
from espnet_objsoup.gradients.sweep import Sweep, SweepError, find_route
from espnet_objsoup.gradients.taps import (
    NO_LAYER,
    Call,
    Recorded,
    Recorder,
    plan,
    plan_surroundings,
)


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
        )


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
        model: that the layers are of; given if a step's backward pass may reuse what measuring
            finds (`measure_and_reuse`). Its layers must not be checkpointed then.
        shared: parameters of the model that all objectives share.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        n_objectives: int,
        sequential: bool = False,
        model: nn.Module | None = None,
        shared: Iterable[nn.Parameter] = (),
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
                "%s mix utterances of a batch: what an utterance's loss does to the others through "
                "the statistics of the batch counts as the others'. In layers below that can be "
                "most of it. Use an encoder without BatchNorm (e_branchformer), or "
                "gradient_engine: reference to measure gradients as they are",
                ", ".join(mixing),
            )
        shared = list(shared)
        self._shared = {id(parameter) for parameter in shared}
        # With constant statistics gradients can be measured, but not descended along; and below a
        # module that mixes utterances, wherever it stands, rows belong to no objective any more.
        self.reuses = (
            model is not None
            and sequential
            and not any(mixes_utterances(module) for module in model.modules())
        )
        self._surroundings = plan_surroundings(model, shared, layers) if self.reuses else None
        self._reasons: set[str] = set()

    @contextmanager
    def recording(self, layers: Sequence[int]) -> Iterator[None]:
        """As GradientEngine."""
        recorded = sorted(layers)
        whole = self.reuses and bool(layers)
        if whole:  # also what lies in between, and above
            recorded = list(range(recorded[0], len(self.layers)))
        taps = [(i, self.layers[i].module, self.plans[i]) for i in recorded]
        if whole:
            taps.append((NO_LAYER, self.layers[-1].module, self._surroundings))
        with self.recorder.recording(taps, layers, whole):
            yield

    def measure(
        self, batch: TaskLosses, layers: Sequence[int], scale: float = 1.0
    ) -> GramianStatistic:
        """As GradientEngine.

        Raises:
            MeasureError: if the modules' calls were not recorded, or cannot be told apart by
                utterance.
        """
        return self._measure(self.recorder.take(), batch, layers, scale)

    def measure_and_reuse(
        self, batch: TaskLosses, layers: Sequence[int], step: StepLoss, scale: float = 1.0
    ) -> tuple[GramianStatistic, ReadyGradients | None]:
        """As GradientEngine.

        Raises:
            MeasureError: as for `measure`.
        """
        recorded = self.recorder.take()
        if not self.reuses:
            return self._measure(recorded, batch, layers, scale), None
        self._check(recorded, batch, layers)
        membership = Membership(batch.index, self.n_objectives, batch.device)
        try:
            route = find_route(recorded, batch.losses, step, len(self.layers), self._shared)
            sweep = Sweep(route, batch.losses, step, membership, scale)
        except SweepError as err:
            if str(err) not in self._reasons:
                logging.info("Gradients of measured steps are computed twice: %s", err)
                self._reasons.add(str(err))
            return self._measure(recorded, batch, layers, scale), None
        del recorded, route
        sums = sweep.run(layers)
        return self._statistic(batch, layers, sums, sweep.weights), sweep.ready

    def _measure(
        self, recorded: Recorded, batch: TaskLosses, layers: Sequence[int], scale: float
    ) -> GramianStatistic:
        """Measuring passes that leave the graph as it is."""
        membership = Membership(batch.index, self.n_objectives, batch.device)
        losses = {task: batch.losses[task] for task in batch.index if membership.occurs(task)}
        self._check(recorded, batch, layers)
        calls = [call for call in recorded.calls if call.counted]
        sums = {i: Products(membership) for i in layers}
        frontiers = {
            task: Frontier([loss], [torch.full_like(loss, scale)]) for task, loss in losses.items()
        }
        for piece in self._pieces(calls, recorded.outputs, layers):
            cotangents = {}
            for task in list(frontiers):
                cotangents[task], frontiers[task] = frontiers[task].go_down(
                    [call.output for call in piece.calls], piece.ends
                )
            for positions in by_key(piece.calls):
                products = sums[piece.calls[positions[0]].layer]
                for _, blocks in blocks_by_parameter(piece.calls, positions, cotangents, scale):
                    products.add(blocks)
        statistic = self._statistic(batch, layers, sums)
        return self._with_others(statistic, batch, layers, scale)

    def _statistic(
        self,
        batch: TaskLosses,
        layers: Sequence[int],
        sums: Mapping[int, Products],
        weights: Tensor | None = None,
    ) -> GramianStatistic:
        """From sums of gradients that are multiplied by (K,) `weights` of objectives."""
        grams = torch.stack([sums[i].grams for i in layers]).cpu()
        own = torch.stack([sums[i].own for i in layers]).cpu()
        if weights is not None:
            grams, own = (x / (weights[:, None] * weights) for x in (grams, own))
        common = common_counts(batch.index, self.n_objectives)
        return GramianStatistic.from_sums(grams, own, torch.diagonal(common), common)

    def _pieces(
        self, calls: Sequence[Call], outputs: Mapping[int, Sequence[Tensor]], layers: Sequence[int]
    ) -> list[Piece]:
        """From the top down: layers whose cotangents are held at the same time.

        Blocks of an encoder follow one another, so that one after the other can be gone through
        from the top; layers chosen by a pattern may stand side by side.
        """
        if not self.sequential:
            return [Piece(list(calls), [])]
        ordered = sorted(set(layers) & set(outputs), reverse=True)  # others were dropped
        ends = [*(outputs.get(i, []) for i in ordered[1:]), []]
        return [
            Piece([call for call in calls if call.layer == i], of_layer)
            for i, of_layer in zip(ordered, ends, strict=True)
        ]

    def _check(self, recorded: Recorded, batch: TaskLosses, layers: Sequence[int]) -> None:
        self._check_lost(recorded, batch, layers)
        for call in recorded.calls:
            if not call.counted:
                continue
            if call.output.size(0) != batch.size:
                raise MeasureError(
                    f"gradient_engine grouped: {self.layers[call.layer].name}: expected a module's "
                    f"output with one row per utterance ({batch.size}), found "
                    f"{tuple(call.output.shape)}; use gradient_engine: reference"
                )
            if call.output._version != call.version:
                raise MeasureError(
                    f"gradient_engine grouped: {self.layers[call.layer].name}: the output of a "
                    f"{type(call.module).__name__} is changed in place afterwards; use "
                    "gradient_engine: reference, or other layers (layers.pattern)"
                )

    def _check_lost(self, recorded: Recorded, batch: TaskLosses, layers: Sequence[int]) -> None:
        """Layers without recorded calls must be without gradients.

        They are where a layer is dropped at random; an error there would end one process of many.
        """
        called = {call.layer for call in recorded.calls}
        lost = [i for i in layers if self.plans[i].modules and i not in called]
        if not lost:
            return
        trained = reach(batch.losses.values(), []).leaves
        names = [
            self.layers[i].name
            for i in lost
            if i in recorded.hidden or any(id(p) in trained for p in self.layers[i].parameters)
        ]
        if names:
            raise MeasureError(
                f"gradient_engine grouped: expected calls of {', '.join(names)} in the forward "
                "pass, found none with a gradient (re-entrant activation checkpointing, or a "
                "compiled encoder); use gradient_engine: reference"
            )

    def forget(self) -> None:
        """As GradientEngine."""
        self.recorder.take()

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


ENGINES: dict[str, type[GradientEngine]] = {
    "grouped": GroupedEngine,
    "reference": ReferenceEngine,
}


def make_engine(
    name: str,
    layers: Sequence[Layer],
    n_objectives: int,
    sequential: bool,
    model: nn.Module | None = None,
    shared: Iterable[nn.Parameter] = (),
) -> GradientEngine:
    """An engine by its name in `trainer_conf.gradient_engine`.

    Args:
        name: `grouped` or `reference`.
        layers, n_objectives: of the model.
        sequential, model, shared: as for GroupedEngine.
    """
    if name == "grouped":
        return GroupedEngine(layers, n_objectives, sequential, model, shared)
    return ENGINES[name](layers, n_objectives)
