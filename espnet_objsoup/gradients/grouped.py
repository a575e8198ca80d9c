# SPDX-License-Identifier: Apache-2.0
"""Gradients of all objectives from one pass per task, by rules for single modules."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from espnet_objsoup.gradients.engine import GradientEngine, MeasureError, TaskLosses
from espnet_objsoup.gradients.frontier import Frontier, blocks_by_parameter, by_parameters
from espnet_objsoup.gradients.graph import reach
from espnet_objsoup.gradients.layers import Layer
from espnet_objsoup.gradients.pieces import split
from espnet_objsoup.gradients.products import Membership, Products
from espnet_objsoup.gradients.reference import reference_statistic
from espnet_objsoup.gradients.reuse import ReadyGradients, StepLoss
from espnet_objsoup.gradients.rules import mixes_utterances
from espnet_objsoup.gradients.statistic import GramianStatistic, common_counts
from espnet_objsoup.gradients.sweep import Sweep, SweepError, find_route
from espnet_objsoup.gradients.taps import (
    NO_LAYER,
    Recorded,
    Recorder,
    plan,
    plan_surroundings,
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
        model: that the layers are of; given if a step's backward pass may reuse what measuring
            finds (`measure_and_reuse`).
        shared: parameters of the model that all objectives share.
        unbiased: as GradientEngine.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        n_objectives: int,
        model: nn.Module | None = None,
        shared: Iterable[nn.Parameter] = (),
        unbiased: bool = True,
    ) -> None:
        super().__init__(layers, n_objectives, unbiased)
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
        self.reuses = model is not None and not any(
            mixes_utterances(module) for module in model.modules()
        )
        self._surroundings = plan_surroundings(model, shared, layers) if self.reuses else None
        self._told: set[str] = set()

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
            self._tell_once(f"Gradients of measured steps are computed twice: {err}")
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
        pieces, missed = split(calls, recorded.outputs, losses.values())
        if len(pieces) == 1 < len({call.layer for call in calls}):
            self._tell_once(
                "A connection skips a measured layer: cotangents of all are held at once"
            )
        sums = {i: Products(membership) for i in layers}
        frontiers = {
            task: Frontier([loss], [torch.full_like(loss, scale)]) for task, loss in losses.items()
        }
        for piece in pieces:
            cotangents = {}
            for task in list(frontiers):
                cotangents[task], frontiers[task] = frontiers[task].go_down(
                    [call.output for call in piece.calls], piece.ends
                )
            for positions in by_parameters(piece.calls):
                products = sums[piece.calls[positions[0]].layer]
                found = blocks_by_parameter(piece.calls, positions, cotangents, scale)
                for parameter, blocks in found:
                    if id(parameter) not in missed:
                        products.add(blocks)
        statistic = self._statistic(batch, layers, sums)
        return self._with_missed(statistic, missed, batch, layers, scale)

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
        return GramianStatistic.from_sums(grams, own, common, self.unbiased)

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

    def _with_missed(
        self,
        statistic: GramianStatistic,
        missed: Collection[int],
        batch: TaskLosses,
        layers: Sequence[int],
        scale: float,
    ) -> GramianStatistic:
        """Add parameters of which not all uses are known, by the reference."""
        by_layer = [[p for p in self.layers[i].parameters if id(p) in missed] for i in layers]
        rows = [n for n, parameters in enumerate(by_layer) if parameters]
        if not rows:
            return statistic
        measured = {id(parameter) for parameters in by_layer for parameter in parameters}
        names = [
            f"{self.layers[i].name}.{name}"
            for i in layers
            for name, parameter in self.layers[i].module.named_parameters()
            if id(parameter) in measured
        ]
        self._tell_once(
            f"gradient_engine grouped: {', '.join(names)}: no rule, or used outside of the "
            "module's call; measured utterance by utterance, which is slow",
            logging.WARNING,
        )
        slow = reference_statistic(
            batch.losses,
            batch.index,
            [by_layer[n] for n in rows],
            self.n_objectives,
            scale,
            self.unbiased,
        )
        statistic.numerators[rows] += slow.numerators
        statistic.mean_norms2[rows] += slow.mean_norms2
        return statistic

    def _tell_once(self, text: str, level: int = logging.INFO) -> None:
        if text not in self._told:
            logging.log(level, text)
            self._told.add(text)
