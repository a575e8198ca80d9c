# SPDX-License-Identifier: Apache-2.0
"""Which stretches of a network measuring goes through, and what it would miss there."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from torch import Tensor

from espnet_objsoup.gradients.frontier import Piece
from espnet_objsoup.gradients.graph import Reach, reach
from espnet_objsoup.gradients.taps import Call


def split(
    calls: Sequence[Call],
    outputs: Mapping[int, Sequence[Tensor]],
    losses: Iterable[Tensor],
) -> tuple[list[Piece], set[int]]:
    """From the top down: layers whose cotangents are held at the same time.

    Blocks of an encoder follow one another, so that one after the other can be gone through; layers
    chosen by a pattern may stand side by side, and connections may skip layers. Then all are gone
    through in one piece.

    Args:
        calls: of measured modules and parameters.
        outputs: layer -> what it returned, at least of the measured layers that were called.
        losses: where cotangents come from.

    Returns:
        The pieces, and ids of parameters with other uses than these calls.
    """
    losses = list(losses)
    pieces = _one_after_the_other(calls, outputs)
    reached = _go_down(pieces, losses)
    if any(
        inside.holds(call.output)
        for inside, piece in zip(reached, pieces, strict=True)
        for other in pieces
        if other is not piece
        for call in other.calls
    ):
        pieces = [Piece(list(calls), [])]
        reached = _go_down(pieces, losses)
    return pieces, _missed(reached, calls)


def _one_after_the_other(
    calls: Sequence[Call], outputs: Mapping[int, Sequence[Tensor]]
) -> list[Piece]:
    called = sorted({call.layer for call in calls}, reverse=True)  # others were dropped
    ends = [*(list(outputs.get(i, [])) for i in called[1:]), []]
    return [
        Piece([call for call in calls if call.layer == i], of_layer)
        for i, of_layer in zip(called, ends, strict=True)
    ]


def _go_down(pieces: Sequence[Piece], losses: Sequence[Tensor]) -> list[Reach]:
    reached = []
    begin = losses
    for piece in pieces:
        reached.append(reach(begin, piece.ends))
        begin = piece.ends
    return reached


def _missed(reached: Sequence[Reach], calls: Iterable[Call]) -> set[int]:
    uses: Counter[int] = Counter()
    for inside in reached:
        uses += inside.uses
    return uncovered(uses, [call for call in calls if any(r.holds(call.output) for r in reached)])


def uncovered(uses: Mapping[int, int], calls: Iterable[Call]) -> set[int]:
    """Ids of parameters that are used more often than by these calls.

    Args:
        uses: id of a parameter -> how many edges of the graph lead to it.
        calls: each of which uses its parameters once.
    """
    covered = Counter(id(parameter) for call in calls for parameter in call.parameters)
    return {key for key, n in uses.items() if n > covered[key]}


def used_elsewhere(pieces: Iterable[Piece], below: Collection[int]) -> bool:
    """Whether a measured parameter has other uses than measured calls in one piece.

    Args:
        pieces: with all their calls.
        below: ids of parameters that are used below the last piece.
    """
    places: dict[int, set[tuple[int, bool]]] = {}
    for n, piece in enumerate(pieces):
        for call in piece.calls:
            for parameter in call.parameters:
                places.setdefault(id(parameter), set()).add((n, call.counted))
    return any(
        any(counted for _, counted in of_one) and (len(of_one) > 1 or key in below)
        for key, of_one in places.items()
    )
