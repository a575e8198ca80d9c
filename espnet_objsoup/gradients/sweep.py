# SPDX-License-Identifier: Apache-2.0
"""Measuring passes that find the step's own gradients on their way.

From the losses down to the lowest measured layer every parameter's gradient in the step is a sum
over objectives, with the soup's coefficients, of what the tasks' cotangents give. So the heads go
through one backward pass, not two, a measured matrix is formed once, and each piece of the graph is
freed as soon as the last task has gone through it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_objsoup.gradients.frontier import (
    Frontier,
    Piece,
    blocks_by_parameter,
    blocks_of_call,
    by_parameters,
)
from espnet_objsoup.gradients.graph import Reach, reach
from espnet_objsoup.gradients.pieces import uncovered, used_elsewhere
from espnet_objsoup.gradients.products import Membership, Products
from espnet_objsoup.gradients.reuse import ReadyGradients, StepLoss, objective_weights
from espnet_objsoup.gradients.rules import Factors
from espnet_objsoup.gradients.taps import NO_LAYER, Call, Recorded


class SweepError(Exception):
    """The step's gradients cannot be had from the measuring passes; the message says why."""


@dataclass(frozen=True)
class Route:
    """The way from the losses to below the lowest measured layer.

    Attributes:
        leaves: parameters of heads.
        separate_heads: no two tasks' losses share a part of the graph above `head_inputs`.
        pieces: from there down.
    """

    leaves: list[Tensor]
    separate_heads: bool
    pieces: list[Piece]


def find_route(
    recorded: Recorded,
    losses: Mapping[str, Tensor],
    step: StepLoss,
    n_layers: int,
    shared: Collection[int],
) -> Route:
    """Plan the way down, and make sure that there is no other one.

    Args:
        recorded: of the forward pass, from the lowest measured layer up.
        losses: task -> (B,).
        step: the scalar to differentiate.
        n_layers: of the model.
        shared: ids of the parameters that all objectives share.

    Raises:
        SweepError: if gradients would be missed or counted twice.
    """
    batch_size = len(next(iter(losses.values())))
    if recorded.stored_elsewhere:
        raise SweepError("activations are computed again, or kept on another device")
    if reach([step.loss], losses.values()).leaves:
        raise SweepError("the loss does not consist of the utterances' losses alone")
    above = {task: reach([loss], step.head_inputs) for task, loss in losses.items()}
    leaves = {key: leaf for heads in above.values() for key, leaf in heads.leaves.items()}
    if any(key in shared for key in leaves):
        raise SweepError("a head uses more of the shared part than its last output")
    calls = [
        call
        for call in recorded.calls
        if call.output.size(0) == batch_size and call.output._version == call.version
    ]
    lowest = min(recorded.outputs, default=n_layers)
    called = sorted(recorded.outputs) == list(range(lowest, n_layers))
    if not called or recorded.entries is None:
        raise SweepError("a layer was not called")
    pieces = []
    begin: Sequence[Tensor] = step.head_inputs
    for i in range(n_layers - 1, lowest - 1, -1):
        ends = recorded.outputs[i - 1] if i > lowest else recorded.entries
        pieces.append(_piece(i, calls, begin, list(ends)))
        begin = ends
    if used_elsewhere(pieces, reach(begin, []).leaves):
        raise SweepError("a measured parameter is also used by another part of the model")
    return Route(list(leaves.values()), _are_separate(list(above.values())), pieces)


def _piece(i: int, calls: Sequence[Call], begin: Sequence[Tensor], ends: list[Tensor]) -> Piece:
    """The piece of a layer, with what surrounds it."""
    inside = reach(begin, ends)
    own = [call for call in calls if call.layer in (i, NO_LAYER) and inside.holds(call.output)]
    missed = uncovered(inside.uses, own)
    if missed:
        shapes = [tuple(inside.leaves[key].shape) for key in missed]
        raise SweepError(
            f"between layer {i} and what follows, parameters of shapes {shapes} have no rule, work "
            "on all utterances at once or are also used outside of their module's calls"
        )
    return Piece(own, ends)


def _are_separate(heads: Sequence[Reach]) -> bool:
    nodes = [
        h.nodes - {n for n in h.nodes if getattr(n, "variable", None) is not None} for h in heads
    ]
    return sum(len(n) for n in nodes) == len(set().union(*nodes))


class Sweep:
    """Measures, and collects what the step's backward pass need not do again.

    Args:
        route: to go.
        losses: task -> (B,).
        step: the scalar to differentiate.
        membership: of the batch.
        scale: factor on the losses during backward passes.

    Attributes:
        ready: gradients of the scalar.
        weights: (K,) that the measured gradients of objectives are multiplied by.

    Raises:
        SweepError: if an objective's utterances do not have one weight in the scalar.
    """

    def __init__(
        self,
        route: Route,
        losses: Mapping[str, Tensor],
        step: StepLoss,
        membership: Membership,
        scale: float = 1.0,
    ) -> None:
        rows = step.row_weights(losses)
        weights = None if rows is None else objective_weights(rows, membership)
        if weights is None:
            raise SweepError(
                "an objective's utterances do not have one positive weight in the loss"
            )
        self.route, self.losses, self.step = route, losses, step
        self.membership, self.scale, self.rows = membership, scale, rows
        self.weights = weights
        self.ready = ReadyGradients(scale)
        present = membership.present
        self._factors = step.factors.to(present.device)
        self._of_sums = self._factors[present]

    def run(self, layers: Sequence[int]) -> dict[int, Products]:
        """Go all the way down.

        Args:
            layers: indices of those to measure.

        Returns:
            Layer -> products of gradients, which are multiplied by `weights`.
        """
        sums = {i: Products(self.membership) for i in layers}
        frontiers = self._through_heads()
        pieces = self.route.pieces
        pieces.reverse()
        while pieces:
            piece = pieces.pop()  # its inputs and outputs are free after it
            self._through_piece(piece, frontiers, sums)
        for task, frontier in frontiers.items():
            for end, cotangent in zip(frontier.outputs, frontier.cotangents, strict=True):
                self.ready.add_end(end, self._weighted(task, cotangent))
        return sums

    def _through_heads(self) -> dict[str, Frontier]:
        """Gradients of the heads; cotangents where they begin, of tasks that occur."""
        frontiers = {}
        waiting = [task for task, loss in self.losses.items() if loss.requires_grad]
        while waiting:
            task = waiting.pop(0)
            loss = self.losses[task]
            found, frontier = Frontier([loss], [self.rows[task] * self.scale]).go_down(
                self.route.leaves,
                self.step.head_inputs,
                retain_graph=bool(waiting) and not self.route.separate_heads,
            )
            for leaf, gradient in zip(self.route.leaves, found, strict=True):
                if gradient is not None:
                    self.ready.add(leaf, gradient if self.scale == 1.0 else gradient / self.scale)
            if self.membership.occurs(task):
                frontiers[task] = frontier
        reached = {id(h) for frontier in frontiers.values() for h in frontier.outputs}
        for h in self.step.head_inputs:
            if id(h) not in reached and h.requires_grad:
                # An encoder pass without any label: its parameters get zeros, as ever.
                self.ready.add_end(h, torch.zeros_like(h))
        return frontiers

    def _through_piece(
        self, piece: Piece, frontiers: dict[str, Frontier], sums: Mapping[int, Products]
    ) -> None:
        outputs = [call.output for call in piece.calls]
        cotangents = {}
        waiting = list(frontiers)
        while waiting:
            task = waiting.pop(0)
            begin = {id(tensor) for tensor in frontiers[task].outputs}
            needed = any(id(t) in begin for other in waiting for t in frontiers[other].outputs)
            cotangents[task], frontiers[task] = frontiers[task].go_down(
                outputs, piece.ends, retain_graph=needed
            )
        outputs.clear()
        for positions in by_parameters(piece.calls):
            call = piece.calls[positions[0]]
            if call.counted:
                found = blocks_by_parameter(piece.calls, positions, cotangents, self.scale)
                for parameter, blocks in found:
                    of_objectives = sums[call.layer].add(blocks)
                    gradient = self._of_sums.to(of_objectives) @ of_objectives
                    self.ready.add(parameter, gradient)
            else:
                for position in positions:
                    self._add_uncounted(piece.calls[position], position, cotangents)

    def _add_uncounted(
        self, call: Call, position: int, cotangents: Mapping[str, list[Tensor | None]]
    ) -> None:
        """Gradients of a module that is not measured: tasks are added up first."""
        total: Tensor | None = None
        for task, of_task in cotangents.items():
            g, of_task[position] = of_task[position], None
            if g is not None:
                g = self._weighted(task, g)
                total = g if total is None else total + g
        if total is None:
            return
        if call.x is not None and call.x.size(0) == 1:
            total = total.sum(0, keepdim=True)
        for parameter, block in zip(
            call.parameters, blocks_of_call(call, total, self.scale), strict=True
        ):
            if isinstance(block, Factors):
                g = block.g.flatten(0, 1)
                self.ready.add(parameter, g.T @ block.x.flatten(0, 1).to(g.dtype))
            else:
                self.ready.add(parameter, block.values.sum(0))

    def _weighted(self, task: str, cotangent: Tensor) -> Tensor:
        """(B, ...) with the soup's coefficients; rows without an objective are zero anyway."""
        index = self.membership.index[task]
        factors = self._factors.to(cotangent.dtype)[index.clamp(min=0)]
        return cotangent * factors.view(-1, *[1] * (cotangent.dim() - 1))
