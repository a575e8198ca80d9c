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


class Membership:
    """Which utterances of a batch are summed up to what.

    Args:
        index: task -> (B,) objective of each utterance, -1 for none.
        n_objectives: K.
        device: of the gradients.

    Attributes:
        index: as given, on the device.
        n_objectives: K.
        columns: the same as plain lists.
        present: (objectives that occur,), in order, on the device.
        places: objective -> its place in `present`.
        members: task -> (objectives that occur, B) bool.
        rows: task -> for each objective that occurs, the positions of its utterances.
    """

    def __init__(
        self, index: Mapping[str, Tensor], n_objectives: int, device: str | torch.device
    ) -> None:
        self.n_objectives = n_objectives
        # Copied to the host once: asking the device for every product would wait for it each time.
        self.columns = {task: column.tolist() for task, column in index.items()}
        found = sorted({k for column in self.columns.values() for k in column} - {-1})
        self.places = {k: i for i, k in enumerate(found)}
        self.index = {task: column.to(device) for task, column in index.items()}
        self.present = torch.tensor(found, dtype=torch.long, device=device)
        self.members = {
            task: column == self.present[:, None] for task, column in self.index.items()
        }
        self.rows = {
            task: [
                torch.tensor([b for b, k in enumerate(column) if k == objective], device=device)
                for objective in found
            ]
            for task, column in self.columns.items()
        }

    def occurs(self, task: str) -> bool:
        """Whether any utterance has an objective of the task."""
        return any(k >= 0 for k in self.columns[task])


class Products:
    """Sums of inner products of one layer.

    Args:
        membership: of the batch.

    Attributes:
        grams: (K, K) float64, <S_k, S_l>.
        own: (K, K) float64, sum over utterances of <g_b^k, g_b^l>.
    """

    def __init__(self, membership: Membership) -> None:
        square = (membership.n_objectives, membership.n_objectives)
        device = membership.present.device
        self.grams = torch.zeros(square, dtype=torch.float64, device=device)
        self.own = torch.zeros(square, dtype=torch.float64, device=device)
        self.batch = membership

    def add(self, blocks: Mapping[str, Factors | Rows]) -> Tensor:
        """Add a parameter.

        Args:
            blocks: task -> gradients of all utterances.

        Returns:
            (objectives that occur, P) sums S_k, in at least single precision.
        """
        some = next(iter(blocks.values()))
        if isinstance(some, Rows):
            sums = self._add_rows(blocks)
        else:
            blocks = {task: Factors(b.x.to(b.g.dtype), b.g) for task, b in blocks.items()}
            if some.g.device.type == "cpu":
                sums = self._add_one_by_one(blocks)
            elif self._is_wide(blocks):
                sums = self._add_by_frames(blocks)
            else:
                sums = self._add_in_chunks(blocks)
        present = self.batch.present
        self.grams[present[:, None], present] += (sums @ sums.T).double()
        return sums

    def _add_rows(self, blocks: Mapping[str, Rows]) -> Tensor:
        """Small parameters, written out per utterance."""
        values = {task: _single(block.values) for task, block in blocks.items()}
        self._add_own_of(values)
        return sum(self._sum(task, written) for task, written in values.items())

    def _add_one_by_one(self, blocks: Mapping[str, Factors]) -> Tensor:
        """One utterance after the other, in a buffer that stays in a processor's cache.

        Forming all blocks at once is bound by memory: three times slower on a CPU.
        """
        some = next(iter(blocks.values()))
        outputs, inputs = some.g.size(2), some.x.size(2)
        single = torch.promote_types(some.g.dtype, torch.float32)
        buffer = torch.empty(len(blocks), outputs, inputs, dtype=single)
        flat = buffer.view(len(blocks), -1)
        sums = torch.zeros(len(self.batch.present), outputs * inputs, dtype=single)
        places, columns = self.batch.places, self.batch.columns
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
        return sums

    def _is_wide(self, blocks: Mapping[str, Factors]) -> bool:
        """Whether products of frames cost less than blocks per utterance."""
        n, frames, inputs = next(iter(blocks.values())).x.shape
        outputs = next(iter(blocks.values())).g.size(2)
        by_frames = 2.0 * n * frames**2 * (inputs + outputs)
        return by_frames < _COST_OF_A_NUMBER * n * inputs * outputs

    def _add_by_frames(self, blocks: Mapping[str, Factors]) -> Tensor:
        """Sums by one product of matrices per objective; own products without forming blocks."""
        some = next(iter(blocks.values()))
        single = torch.promote_types(some.g.dtype, torch.float32)
        shape = (len(self.batch.present), some.g.size(2), some.x.size(2))
        sums = torch.zeros(shape, dtype=single, device=some.g.device)
        for task, block in blocks.items():
            for i, rows in enumerate(self.batch.rows[task]):
                if len(rows) > 0:
                    x, g = block.x[rows].flatten(0, 1), block.g[rows].flatten(0, 1)
                    sums[i] += _single(g.T @ x)
        for first, second in itertools.combinations_with_replacement(blocks, 2):
            a, b = blocks[first], blocks[second]
            inputs = torch.bmm(a.x, b.x.transpose(1, 2))
            outputs = torch.bmm(a.g, b.g.transpose(1, 2))
            self._add_own(first, second, (_single(inputs) * _single(outputs)).sum((1, 2)))
        return sums.flatten(1)

    def _add_in_chunks(self, blocks: Mapping[str, Factors]) -> Tensor:
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
        return sums

    def _sum(self, task: str, written: Tensor, chunk: slice = slice(None)) -> Tensor:
        """(present objectives, P) sums of (n, P) gradients by objective."""
        return self.batch.members[task][:, chunk].to(written.dtype) @ written

    def _add_own_of(self, written: Mapping[str, Tensor], chunk: slice = slice(None)) -> None:
        for first, second in itertools.combinations_with_replacement(written, 2):
            # Not `linalg.vecdot`, which writes a temporary as large as its operands.
            products = torch.bmm(written[first].unsqueeze(1), written[second].unsqueeze(2))
            self._add_own(first, second, products[:, 0, 0], chunk)

    def _add_own(
        self, first: str, second: str, products: Tensor, chunk: slice = slice(None)
    ) -> None:
        """Add (n,) products of the utterances' gradients for two tasks."""
        k, j = self.batch.index[first][chunk], self.batch.index[second][chunk]
        # Not `k[both]`: a GPU would be waited for to learn how many there are.
        products = torch.where((k >= 0) & (j >= 0), products, 0.0).double()
        k, j = k.clamp(min=0), j.clamp(min=0)
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
