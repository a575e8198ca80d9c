# SPDX-License-Identifier: Apache-2.0
"""Inner products of gradients, from blocks that are thrown away at once.

Notation: K objectives, B utterances, g_b^k the gradient of utterance b for objective k, S_k their
sum over b. A layer needs <S_k, S_l> and the utterances' own sum_b <g_b^k, g_b^l>.
"""

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from espnet_objsoup.gradients.rules import Factors, Rows

# On a GPU blocks per utterance are formed in chunks of at most this many numbers.
_CHUNK = 2**26
# Operations that writing and reading a number of a block is worth there; decides between blocks and
# products of frames.
_COST_OF_A_NUMBER = 24.0


class Products:
    """Sums of inner products of one layer.

    Args:
        index: task -> (B,) objective of each utterance, -1 for none.
        n_objectives: K.
        device: of the blocks.

    Attributes:
        grams: (K, K) float64, <S_k, S_l>.
        own: (K, K) float64, sum over utterances of <g_b^k, g_b^l>.
    """

    def __init__(
        self, index: Mapping[str, Tensor], n_objectives: int, device: torch.device
    ) -> None:
        square = (n_objectives, n_objectives)
        self.grams = torch.zeros(square, dtype=torch.float64, device=device)
        self.own = torch.zeros(square, dtype=torch.float64, device=device)
        self.index = dict(index)
        present = torch.cat([column for column in index.values()]).unique()
        self.present = present[present >= 0]
        # (objectives that are present, B): which utterances are summed up to what.
        self.members = {task: (column == self.present[:, None]) for task, column in index.items()}

    def add_rows(self, blocks: Mapping[str, Rows]) -> None:
        """Add small parameters, written out per utterance."""
        values = {task: _single(block.values) for task, block in blocks.items()}
        self._add_sums(sum(self._sum(task, written) for task, written in values.items()))
        self._add_own_of(values)

    def add_factors(self, blocks: Mapping[str, Factors]) -> None:
        """Add a matrix parameter."""
        blocks = {task: Factors(b.x.to(b.g.dtype), b.g) for task, b in blocks.items()}
        if next(iter(blocks.values())).g.device.type == "cpu":
            self._add_one_by_one(blocks)
        elif self._is_wide(blocks):
            self._add_by_frames(blocks)
        else:
            self._add_in_chunks(blocks)

    def _add_one_by_one(self, blocks: Mapping[str, Factors]) -> None:
        """One utterance after the other, in a buffer that stays in a processor's cache.

        Forming all blocks at once is bound by memory: three times slower on a CPU.
        """
        some = next(iter(blocks.values()))
        outputs, inputs = some.g.size(2), some.x.size(2)
        single = torch.promote_types(some.g.dtype, torch.float32)
        buffer = torch.empty(len(blocks), outputs, inputs, dtype=single)
        flat = buffer.view(len(blocks), -1)
        sums = torch.zeros(len(self.present), outputs * inputs, dtype=single)
        places = {int(k): i for i, k in enumerate(self.present)}
        columns = {task: self.index[task].tolist() for task in blocks}
        # In Python's own numbers: additions to a tensor, one by one, would cost more than products.
        own = [[0.0] * len(self.own) for _ in self.own]
        for b in range(some.g.size(0)):
            rows = [
                (columns[task][b], block) for task, block in blocks.items() if columns[task][b] >= 0
            ]
            for i, (k, block) in enumerate(rows):
                torch.mm(block.g[b].T.to(single), block.x[b].to(single), out=buffer[i])
                sums[places[k]] += flat[i]
            products = (flat[: len(rows)] @ flat[: len(rows)].T).tolist()
            for i, j in itertools.product(range(len(rows)), repeat=2):
                own[rows[i][0]][rows[j][0]] += products[i][j]
        self.own += torch.tensor(own, dtype=torch.float64)
        self._add_sums(sums)

    def _is_wide(self, blocks: Mapping[str, Factors]) -> bool:
        """Whether products of frames cost less than blocks per utterance."""
        n, frames, inputs = next(iter(blocks.values())).x.shape
        outputs = next(iter(blocks.values())).g.size(2)
        by_frames = 2.0 * n * frames**2 * (inputs + outputs)
        return by_frames < _COST_OF_A_NUMBER * n * inputs * outputs

    def _add_by_frames(self, blocks: Mapping[str, Factors]) -> None:
        """Sums by one product of matrices per objective; own products without forming blocks."""
        sums: list[Tensor | int] = [0] * len(self.present)
        for task, block in blocks.items():
            for i, member in enumerate(self.members[task]):
                if not member.any():
                    continue
                x, g = block.x[member].flatten(0, 1), block.g[member].flatten(0, 1)
                sums[i] = sums[i] + _single(g.T @ x).flatten()
        empty = torch.zeros_like(next(total for total in sums if isinstance(total, Tensor)))
        self._add_sums(
            torch.stack([total if isinstance(total, Tensor) else empty for total in sums])
        )
        for first, second in itertools.combinations_with_replacement(blocks, 2):
            a, b = blocks[first], blocks[second]
            inputs = torch.bmm(a.x, b.x.transpose(1, 2))
            outputs = torch.bmm(a.g, b.g.transpose(1, 2))
            self._add_own(first, second, (_single(inputs) * _single(outputs)).sum((1, 2)))

    def _add_in_chunks(self, blocks: Mapping[str, Factors]) -> None:
        """Blocks of some utterances at a time."""
        some = next(iter(blocks.values()))
        step = max(1, _CHUNK // (some.x.size(2) * some.g.size(2) * len(blocks)))
        sums: Tensor | int = 0
        for begin in range(0, some.x.size(0), step):
            chunk = slice(begin, begin + step)
            written = {
                task: _single(torch.bmm(block.g[chunk].transpose(1, 2), block.x[chunk])).flatten(1)
                for task, block in blocks.items()
            }
            sums = sums + sum(self._sum(task, rows, chunk) for task, rows in written.items())
            self._add_own_of(written, chunk)
        self._add_sums(sums)

    def _sum(self, task: str, written: Tensor, chunk: slice = slice(None)) -> Tensor:
        """(present objectives, P) sums of (n, P) gradients by objective."""
        return self.members[task][:, chunk].to(written.dtype) @ written

    def _add_own_of(self, written: Mapping[str, Tensor], chunk: slice = slice(None)) -> None:
        for first, second in itertools.combinations_with_replacement(written, 2):
            # Not `linalg.vecdot`, which writes a temporary as large as its operands.
            products = torch.bmm(written[first].unsqueeze(1), written[second].unsqueeze(2))
            self._add_own(first, second, products[:, 0, 0], chunk)

    def _add_sums(self, sums: Tensor) -> None:
        """Add the products of (present objectives, P) sums."""
        self.grams[self.present[:, None], self.present] += (sums @ sums.T).double()

    def _add_own(
        self, first: str, second: str, products: Tensor, chunk: slice = slice(None)
    ) -> None:
        """Add (n,) products of the utterances' gradients for two tasks."""
        k, j = self.index[first][chunk], self.index[second][chunk]
        both = (k >= 0) & (j >= 0)
        k, j, products = k[both], j[both], products[both].double()
        self.own.index_put_((k, j), products, accumulate=True)
        if first != second:
            self.own.index_put_((j, k), products, accumulate=True)


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
