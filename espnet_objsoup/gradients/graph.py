# SPDX-License-Identifier: Apache-2.0
"""Going through autograd's graph by hand: what a tensor depends on, and by which way."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class Reach:
    """What lies between outputs and the tensors at which the search stopped.

    Attributes:
        nodes: of the graph.
        leaves: tensors at its ends, such as parameters, by id.
        uses: how many edges lead to each leaf, by id. Mixed precision makes one copy of a leaf for
            all its uses; then those of the copy count.
    """

    nodes: set[Any] = field(default_factory=set)
    leaves: dict[int, Tensor] = field(default_factory=dict)
    uses: Counter[int] = field(default_factory=Counter)

    def holds(self, tensor: Tensor) -> bool:
        """Whether the node that made a tensor is among them."""
        return tensor.grad_fn in self.nodes


def reach(outputs: Iterable[Tensor], stops: Iterable[Tensor]) -> Reach:
    """Follow the graph down from outputs, up to the tensors to stop at.

    Args:
        outputs: to start from.
        stops: their nodes are not entered; other outputs of the same nodes are.
    """
    closed = {_edge(tensor) for tensor in stops}
    found = Reach()
    waiting = [_edge(tensor) for tensor in outputs if tensor.requires_grad]
    while waiting:
        edge = waiting.pop()
        node = edge[0]
        if node is None or edge in closed:
            continue
        leaf = _leaf(node)
        if leaf is not None:
            found.leaves[id(leaf)] = leaf
            found.uses[id(leaf)] += 1
            found.nodes.add(node)
        elif node not in found.nodes:
            found.nodes.add(node)
            waiting.extend(node.next_functions)
    return found


def _leaf(node: Any) -> Tensor | None:
    """The leaf that a node accumulates the gradient of, or that it casts to another type."""
    if node.name() == "ToCopyBackward0":
        ((node, _),) = node.next_functions
    return getattr(node, "variable", None)


def _edge(tensor: Tensor) -> tuple[Any, int]:
    return tensor.grad_fn, tensor.output_nr
