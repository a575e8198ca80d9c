# SPDX-License-Identifier: Apache-2.0
"""Cotangents on their way down through a network, piece by piece."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from espnet_objsoup.gradients.products import concatenate
from espnet_objsoup.gradients.rules import Block, Rows
from espnet_objsoup.gradients.taps import Call


@dataclass(frozen=True)
class Frontier:
    """How far down a task's cotangents have come.

    Attributes:
        outputs: tensors that have been reached.
        cotangents: of these.
    """

    outputs: Sequence[Tensor]
    cotangents: Sequence[Tensor]

    def go_down(
        self, wanted: Sequence[Tensor], ends: Sequence[Tensor], retain_graph: bool = True
    ) -> tuple[list[Tensor | None], "Frontier"]:
        """One piece further.

        Args:
            wanted: tensors whose cotangents are needed.
            ends: where the piece ends.
            retain_graph: whether this piece of the graph is needed again.

        Returns:
            Cotangents of `wanted` (None: does not depend), and the frontier at those of `ends` that
            were reached.
        """
        if not self.outputs or not (wanted or ends):
            return [None] * len(wanted), Frontier([], [])
        found = torch.autograd.grad(
            self.outputs,
            [*wanted, *ends],
            self.cotangents,
            retain_graph=retain_graph,
            allow_unused=True,
        )
        reached = [
            (end, cotangent)
            for end, cotangent in zip(ends, found[len(wanted) :], strict=True)
            if cotangent is not None
        ]
        frontier = Frontier([end for end, _ in reached], [cotangent for _, cotangent in reached])
        return list(found[: len(wanted)]), frontier


@dataclass(frozen=True)
class Piece:
    """A stretch of the network that cotangents go through in one go.

    Attributes:
        calls: whose outputs' cotangents are needed.
        ends: where the next piece begins.
    """

    calls: list[Call]
    ends: list[Tensor]


def by_parameters(calls: Sequence[Call]) -> list[list[int]]:
    """Positions of calls, those together that have a parameter in common.

    They are the calls of one module, or of several that share a parameter.
    """
    groups: list[tuple[set[int], list[int]]] = []
    for position, call in enumerate(calls):
        keys, positions = {id(parameter) for parameter in call.parameters}, [position]
        for group in [group for group in groups if group[0] & keys]:
            groups.remove(group)
            keys |= group[0]
            positions += group[1]
        groups.append((keys, positions))
    return [sorted(positions) for _, positions in groups]


def blocks_by_parameter(
    calls: Sequence[Call],
    positions: Sequence[int],
    cotangents: Mapping[str, list[Tensor | None]],
    scale: float,
) -> Iterator[tuple[nn.Parameter, dict[str, Block]]]:
    """Gradients of some parameters, from all their calls and all tasks.

    Args:
        calls: of a piece.
        positions: of the calls among them.
        cotangents: task -> of the calls' outputs; set to None as they are consumed.
        scale: that cotangents are multiplied by.

    Yields:
        The parameter, and task -> block.
    """
    found: dict[nn.Parameter, dict[str, list[Block]]] = {}
    for task, of_task in cotangents.items():
        for position in positions:
            g, of_task[position] = of_task[position], None
            if g is not None:
                call = calls[position]
                for parameter, block in zip(
                    call.parameters, blocks_of_call(call, g, scale), strict=True
                ):
                    found.setdefault(parameter, {}).setdefault(task, []).append(block)
    for parameter, of_tasks in found.items():
        yield parameter, {task: concatenate(parts) for task, parts in of_tasks.items()}


def blocks_of_call(call: Call, g: Tensor, scale: float) -> list[Block]:
    """Blocks of a call, in single precision's range: the scale is divided out first."""
    if scale != 1.0:
        g = g.to(torch.promote_types(g.dtype, torch.float32)) / scale
    if call.module is None:
        return [Rows(g.flatten(1))]
    return call.rule(call.module, call.x, g)
