# SPDX-License-Identifier: Apache-2.0
"""Sums from which the Gramian of expected gradients is estimated without bias.

Notation: K objectives, N layers, g_b^k the gradient of utterance b's loss of objective k.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class GramianStatistic:
    """The U-statistic over pairs of different utterances, as sums that add up.

    G_kl is estimated by numerators_kl / pairs_kl; sums over micro-batches and processes stay
    unbiased, since each of them uses its own utterances only. With `estimate: batch` all pairs
    count, those of an utterance with itself too: the Gramian of each micro-batch's own gradients.

    Attributes:
        numerators: (N, K, K) float64, sum over pairs b != b' of <g_b^k, g_b'^l>.
        pairs: (K, K) float64, number of these pairs.
        mean_norms2: (N, K) float64, sum over micro-batches of ||mean_b g_b^k||^2; biased upwards,
            used only as a floor under the norms of cosines.
        batches: (K,) float64, micro-batches in which the objective was present.
    """

    numerators: Tensor
    pairs: Tensor
    mean_norms2: Tensor
    batches: Tensor

    @classmethod
    def zeros(cls, n_layers: int, n_objectives: int) -> "GramianStatistic":
        """The empty sum."""
        k = n_objectives
        double = torch.float64
        return cls(
            torch.zeros(n_layers, k, k, dtype=double),
            torch.zeros(k, k, dtype=double),
            torch.zeros(n_layers, k, dtype=double),
            torch.zeros(k, dtype=double),
        )

    @classmethod
    def from_sums(
        cls, grams: Tensor, own: Tensor, common: Tensor, unbiased: bool = True
    ) -> "GramianStatistic":
        """From one micro-batch.

        Args:
            grams: (N, K, K), <S_k, S_l> with S_k the sum of objective k's gradients.
            own: (N, K, K), sum over utterances of <g_b^k, g_b^l>.
            common: (K, K) utterances that two objectives have in common; those of each objective
                on the diagonal.
            unbiased: leave out pairs of an utterance with itself.
        """
        common = common.double().cpu()
        counts = torch.diagonal(common)
        grams = grams.double().cpu()
        squares = torch.diagonal(grams, dim1=1, dim2=2)
        pairs = counts[:, None] * counts[None, :]
        return cls(
            grams - own.double().cpu() if unbiased else grams,
            pairs - common if unbiased else pairs,
            squares / counts.clamp(min=1.0) ** 2,
            (counts > 0).double(),
        )

    def __add__(self, other: "GramianStatistic") -> "GramianStatistic":
        """Both sums together."""
        return GramianStatistic(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def select(self, layers: Sequence[int]) -> "GramianStatistic":
        """The sums of some layers."""
        rows = list(layers)
        return GramianStatistic(
            self.numerators[rows], self.pairs, self.mean_norms2[rows], self.batches
        )

    def collapse(self) -> "GramianStatistic":
        """All layers as one."""
        return GramianStatistic(
            self.numerators.sum(0, keepdim=True),
            self.pairs,
            self.mean_norms2.sum(0, keepdim=True),
            self.batches,
        )

    def sum_over_processes(self, device: str | torch.device = "cpu") -> "GramianStatistic":
        """The sums of all processes together, by one collective.

        Args:
            device: that the process group communicates from.
        """
        parts = list(vars(self).values())
        flat = torch.cat([part.flatten() for part in parts]).to(device)
        torch.distributed.all_reduce(flat)
        pieces = flat.cpu().split([part.numel() for part in parts])
        return GramianStatistic(
            *(piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True))
        )

    def total(self) -> tuple[Tensor, Tensor, Tensor]:
        """All layers together.

        Returns:
            numerators (K, K), pairs (K, K), and (K,) the mean over micro-batches of
            ||mean_b g_b^k||^2, 0 where an objective was absent.
        """
        mean_norms2 = self.mean_norms2.sum(0) / self.batches.clamp(min=1.0)
        return self.numerators.sum(0), self.pairs, mean_norms2

    def nonfinite(self) -> Tensor:
        """(K,) bool: objectives with a NaN or an infinity in one of their entries."""
        bad = ~torch.isfinite(self.numerators).all(0)
        # An objective that is finite with itself is not to blame for its products with others.
        own = torch.diagonal(bad)
        return own if bool(own.any()) else bad.any(1)


def common_counts(index: Mapping[str, Tensor], n_objectives: int) -> Tensor:
    """Utterances that two objectives have in common.

    Args:
        index: task -> (B,) objective of every utterance, -1 for none.
        n_objectives: K.

    Returns:
        (K, K) float64 with the number of utterances of each objective on the diagonal.
    """
    columns = list(index.values())
    membership = torch.zeros(len(columns[0]), n_objectives, dtype=torch.float64)
    for column in columns:
        rows = (column >= 0).nonzero()[:, 0]
        membership[rows.cpu(), column[rows].cpu()] = 1.0
    return membership.T @ membership
