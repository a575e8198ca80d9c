# SPDX-License-Identifier: Apache-2.0
"""Inner products of gradients, from blocks that are thrown away at once.

Notation: K objectives, B utterances, g_b^k the gradient of utterance b for objective k, S_k their
sum over b. A layer needs <S_k, S_l> and the utterances' own sum_b <g_b^k, g_b^l>.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_objsoup.gradients.rules import Factors, Rows

# Blocks per utterance are formed in chunks of at most this many numbers.
_CHUNK = 2**24
# Operations that writing and reading a number of a block per utterance is worth (measured).
_COST_OF_A_NUMBER = 24.0


@dataclass(frozen=True)
class TaskRows:
    """Utterances of one task.

    Attributes:
        utterances: (R,) indices into the batch, ascending.
        objectives: (R,) their objectives.
        groups: objective -> positions in `utterances`.
    """

    utterances: Tensor
    objectives: Tensor
    groups: Mapping[int, Tensor]

    @classmethod
    def of(cls, index: Tensor) -> "TaskRows":
        """From (B,) objectives, -1 for none."""
        utterances = (index >= 0).nonzero()[:, 0]
        objectives = index[utterances]
        groups = {int(k): (objectives == k).nonzero()[:, 0] for k in objectives.unique().tolist()}
        return cls(utterances, objectives, groups)


class Products:
    """Sums of inner products of one layer.

    Args:
        rows: task -> its utterances.
        n_objectives: K.
        device: of the blocks.

    Attributes:
        grams: (K, K) float64, <S_k, S_l>.
        own: (K, K) float64, sum over utterances of <g_b^k, g_b^l>.
    """

    def __init__(
        self, rows: Mapping[str, TaskRows], n_objectives: int, device: torch.device
    ) -> None:
        self.rows = rows
        square = (n_objectives, n_objectives)
        self.grams = torch.zeros(square, dtype=torch.float64, device=device)
        self.own = torch.zeros(square, dtype=torch.float64, device=device)
        self._pairs = _common_rows(rows)

    def add_rows(self, blocks: Mapping[str, Rows]) -> None:
        """Add small parameters, written out per utterance."""
        values = {task: block.values[self.rows[task].utterances] for task, block in blocks.items()}
        self._add_written_out({task: _single(value) for task, value in values.items()}, values)

    def add_factors(self, blocks: Mapping[str, Factors]) -> None:
        """Add a matrix parameter."""
        blocks = {task: self._valid(task, block) for task, block in blocks.items()}
        if self._is_wide(blocks):
            self._add_by_frames(blocks)
        else:
            self._add_by_utterance(blocks)

    def _valid(self, task: str, block: Factors) -> Factors:
        rows = self.rows[task].utterances
        x, g = block.x, block.g
        if len(rows) < x.size(0):
            x, g = x[rows], g[rows]
        return Factors(x.to(g.dtype), g)

    def _is_wide(self, blocks: Mapping[str, Factors]) -> bool:
        """Whether products of frames cost less than blocks per utterance."""
        cheaper = dearer = 0.0
        for block in blocks.values():
            n, frames, inputs = block.x.shape
            outputs = block.g.size(2)
            cheaper += 2.0 * n * frames**2 * (inputs + outputs)
            dearer += _COST_OF_A_NUMBER * n * inputs * outputs
        return cheaper < dearer

    def _add_by_frames(self, blocks: Mapping[str, Factors]) -> None:
        """Sums by one product of matrices per objective; own products without forming blocks."""
        sums = {}
        for task, block in blocks.items():
            for k, group in self.rows[task].groups.items():
                x = block.x[group].flatten(0, 1)
                g = block.g[group].flatten(0, 1)
                total = _single(g.T @ x).flatten()
                sums[k] = total if k not in sums else sums[k] + total
        self._add_sums(sums)
        for (first, second), (left, right) in self._pairs.items():
            if first not in blocks or second not in blocks:
                continue
            a, b = blocks[first], blocks[second]
            if first != second:
                a = Factors(a.x[left], a.g[left])
                b = Factors(b.x[right], b.g[right])
            inputs = torch.bmm(a.x, b.x.transpose(1, 2))
            outputs = torch.bmm(a.g, b.g.transpose(1, 2))
            products = (_single(inputs) * _single(outputs)).sum((1, 2))
            self._add_own(first, second, left, right, products)

    def _add_by_utterance(self, blocks: Mapping[str, Factors]) -> None:
        """Blocks per utterance, in chunks of utterances that all tasks share."""
        some = next(iter(blocks.values()))
        size = some.x.size(2) * some.g.size(2)
        n_utterances = 1 + max(int(self.rows[task].utterances.max()) for task in blocks)
        step = max(1, _CHUNK // (size * len(blocks)))
        sums: dict[int, Tensor] = {}
        for begin in range(0, n_utterances, step):
            chunk = {}
            for task, block in blocks.items():
                utterances = self.rows[task].utterances
                inside = ((utterances >= begin) & (utterances < begin + step)).nonzero()[:, 0]
                if len(inside) == 0:
                    continue
                x, g = block.x, block.g
                if len(inside) < len(utterances):
                    x, g = x[inside], g[inside]
                written = _single(torch.bmm(g.transpose(1, 2), x)).flatten(1)
                chunk[task] = (inside, written)
                for k, total in self._sum_by_objective(task, inside, written).items():
                    sums[k] = total if k not in sums else sums[k].add_(total)
            self._add_own_of_chunk(chunk)
        self._add_sums(sums)

    def _sum_by_objective(self, task: str, inside: Tensor, written: Tensor) -> dict[int, Tensor]:
        objectives = self.rows[task].objectives[inside]
        return {int(k): written[objectives == k].sum(0) for k in objectives.unique().tolist()}

    def _add_own_of_chunk(self, chunk: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        for first, second in self._pairs:
            if first not in chunk or second not in chunk:
                continue
            (left, a), (right, b) = chunk[first], chunk[second]
            if first != second:
                both = torch.isin(
                    self.rows[first].utterances[left], self.rows[second].utterances[right]
                ).nonzero()[:, 0]
                other = torch.isin(
                    self.rows[second].utterances[right], self.rows[first].utterances[left]
                ).nonzero()[:, 0]
                left, a, right, b = left[both], a[both], right[other], b[other]
            self._add_own(first, second, left, right, torch.linalg.vecdot(a, b))

    def _add_written_out(self, values: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
        sums: dict[int, Tensor] = {}
        for task, written in values.items():
            for k, group in self.rows[task].groups.items():
                total = written[group].sum(0)
                sums[k] = total if k not in sums else sums[k] + total
        self._add_sums(sums)
        everything = {
            task: (torch.arange(len(written), device=written.device), written)
            for task, written in values.items()
        }
        self._add_own_of_chunk(everything)

    def _add_sums(self, sums: Mapping[int, Tensor]) -> None:
        if not sums:
            return
        present = torch.tensor(list(sums), device=self.grams.device)
        stacked = torch.stack(list(sums.values()))
        self.grams[present[:, None], present] += (stacked @ stacked.T).double()

    def _add_own(
        self, first: str, second: str, left: Tensor, right: Tensor, products: Tensor
    ) -> None:
        """Add (n,) products of rows `left` of one task with rows `right` of another."""
        k = self.rows[first].objectives[left]
        j = self.rows[second].objectives[right]
        self.own.index_put_((k, j), products.double(), accumulate=True)
        if first != second:
            self.own.index_put_((j, k), products.double(), accumulate=True)


def _common_rows(rows: Mapping[str, TaskRows]) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
    """Pairs of tasks -> positions of the utterances that both have, in either's rows."""
    pairs = {}
    tasks = list(rows)
    for i, first in enumerate(tasks):
        for second in tasks[i:]:
            a, b = rows[first].utterances, rows[second].utterances
            left, right = torch.isin(a, b).nonzero()[:, 0], torch.isin(b, a).nonzero()[:, 0]
            if len(left) > 0:
                pairs[first, second] = (left, right)
    return pairs


def _single(values: Tensor) -> Tensor:
    """At least single precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def concatenate(blocks: Sequence[Factors | Rows]) -> Factors | Rows:
    """Blocks of one parameter from several calls of its module."""
    if len(blocks) == 1:
        return blocks[0]
    if isinstance(blocks[0], Rows):
        return Rows(torch.stack([block.values for block in blocks]).sum(0))
    return Factors(
        torch.cat([block.x for block in blocks], dim=1),
        torch.cat([block.g for block in blocks], dim=1),
    )
