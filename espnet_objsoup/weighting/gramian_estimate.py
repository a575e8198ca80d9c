# SPDX-License-Identifier: Apache-2.0
"""Running estimate of the Gramian of the expected gradients.

    G_kl = (sum of numerators) / (sum of pairs),   both sums as exponential moving averages,

where a refresh supplies, summed over micro-batches and ranks,

    numerator_kl = <S_k, S_l> - sum over utterances b common to k and l of <g_b^k, g_b^l>
    pairs_kl     = n_k n_l - n_kl

(a U-statistic over pairs of different utterances). The ratio of averages needs no bias correction.
"""

from typing import Any

import torch
from torch import Tensor

# A diagonal below this share of the squared norm of the mean gradient is noise (simulated).
DIAGONAL_FLOOR = 0.02
# A cosine from fewer pairs says nothing.
MIN_PAIRS = 30
DEFAULT_DECAY = 0.99


class RunningGramian:
    """Estimate of E[J] E[J]^T, for one block of parameters or several at once.

    Args:
        objectives: K.
        layers: leading axes, for an estimate per layer.
        decay: of the moving averages, per refresh.

    Attributes:
        numerators: (..., K, K) float64 average of numerators.
        pairs: (..., K, K) float64 average of pair counts.
        squared_pairs: (..., K, K) float64 average of their squares, for the sample size.
        total_pairs: (..., K, K) float64 all pairs ever seen.
        mean_norms2: (..., K) float64 average of ||mean g_k||^2 over refreshes in which k occurred.
        norm_weight: (K,) or (..., K) float64 weight of these refreshes, for bias correction.
    """

    def __init__(
        self, objectives: int, layers: tuple[int, ...] = (), decay: float = DEFAULT_DECAY
    ) -> None:
        self.decay = decay
        square = (*layers, objectives, objectives)
        for name in ("numerators", "pairs", "squared_pairs", "total_pairs"):
            setattr(self, name, torch.zeros(square, dtype=torch.float64))
        self.mean_norms2 = torch.zeros(square[:-1], dtype=torch.float64)
        self.norm_weight = torch.zeros(square[:-1], dtype=torch.float64)

    def update(self, numerators: Tensor, pairs: Tensor, mean_norms2: Tensor) -> None:
        """Fold in a refresh. Entries without pairs keep their running value.

        Args:
            numerators: (..., K, K) sums.
            pairs: (..., K, K) or (K, K), >= 0.
            mean_norms2: (..., K) ||S_k||^2 / n_k^2; ignored where k has no utterance (0 there).
        """
        pairs = pairs.double().expand(self.pairs.shape)
        seen = pairs > 0
        # An unseen entry keeps its ratio, its pair count and its sample size, all undecayed.
        keep = torch.where(seen, self.decay, 1.0)
        add = torch.where(seen, 1.0 - self.decay, 0.0)
        self.numerators = keep * self.numerators + add * numerators.double()
        self.pairs = keep * self.pairs + add * pairs
        self.squared_pairs = keep**2 * self.squared_pairs + (add * pairs) ** 2
        self.total_pairs = self.total_pairs + pairs
        present = mean_norms2 > 0
        keep = torch.where(present, self.decay, 1.0)
        add = torch.where(present, 1.0 - self.decay, 0.0)
        self.mean_norms2 = keep * self.mean_norms2 + add * mean_norms2.double()
        self.norm_weight = keep * self.norm_weight + add

    def gramian(self) -> Tensor:
        """(..., K, K) float64 unbiased, symmetric, not necessarily definite; 0 where unknown."""
        value = torch.where(self.pairs > 0, self.numerators / self.pairs.clamp(min=1e-300), 0.0)
        return 0.5 * (value + value.mT)

    def known(self) -> Tensor:
        """(..., K, K) bool: entries for which a pair has been seen."""
        return self.total_pairs > 0

    def effective_sample_size(self) -> Tensor:
        """(..., K, K) float64 refreshes that the estimate is worth (Kish), at most (1+d)/(1-d)."""
        return torch.where(
            self.squared_pairs > 0, self.pairs**2 / self.squared_pairs.clamp(min=1e-300), 0.0
        )

    def diagonal(self, floor: Tensor | float = DIAGONAL_FLOOR) -> Tensor:
        """(..., K) float64 squared norms, kept away from the noise.

        Args:
            floor: share of the mean gradient's squared norm below which none may fall.
        """
        norms = self.mean_norms2 / self.norm_weight.clamp(min=1e-300)
        return torch.maximum(self.gramian().diagonal(dim1=-2, dim2=-1), floor * norms)

    def lengths(self) -> Tensor:
        """(..., K) float64 lengths of the expected gradients, to divide by; 0 where unknown."""
        return self._cautious_diagonal().sqrt()

    def scale(self, rows: Tensor | None = None) -> Tensor:
        """(...) float64 mean squared length, by which a weighting's matrix is divided; never 0.

        Args:
            rows: (n,) indices of the objectives concerned, all if None.
        """
        diagonal = self._cautious_diagonal()
        if rows is not None:
            diagonal = diagonal[..., rows]
        mean = diagonal.sum(dim=-1) / (diagonal > 0).sum(dim=-1).clamp(min=1)
        return torch.where(mean > 0, mean, 1.0)

    def _cautious_diagonal(self) -> Tensor:
        # The first estimates of a diagonal can be near zero or negative; until there are enough of
        # them the mean gradients' norms, too large rather than too small, take part.
        samples = self.effective_sample_size().diagonal(dim1=-2, dim2=-1)
        floor = (1.0 / samples.clamp(min=1.0)).clamp(min=DIAGONAL_FLOOR)
        return self.diagonal(floor=floor).clamp(min=0.0)

    def cosines(self) -> tuple[Tensor, Tensor]:
        """Cosines between the objectives' expected gradients.

        Returns:
            (..., K, K) float64 in [-1, 1], and (..., K, K) bool: pairs k != l with at least
            MIN_PAIRS pairs of utterances, for which the cosine counts.
        """
        diagonal = self.diagonal()
        norms = diagonal.clamp(min=0.0).sqrt()
        product = norms.unsqueeze(-1) * norms.unsqueeze(-2)
        cosines = torch.where(product > 0, self.gramian() / product.clamp(min=1e-300), 0.0)
        counted = (self.total_pairs >= MIN_PAIRS) & (product > 0)
        counted &= ~torch.eye(counted.shape[-1], dtype=torch.bool)
        return cosines.clamp(-1.0, 1.0), counted

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in vars(self).items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        for name, value in state.items():
            setattr(self, name, value.cpu().clone() if isinstance(value, Tensor) else value)


def step_gramian(numerators: Tensor, pairs: Tensor, running: Tensor) -> Tensor:
    """One refresh's unbiased estimate; entries without pairs come from the running one.

    Args:
        numerators: (..., K, K) sums.
        pairs: (..., K, K) pair counts.
        running: (..., K, K) running estimate.

    Returns:
        (..., K, K) float64, symmetric.
    """
    value = torch.where(pairs > 0, numerators.double() / pairs.double().clamp(min=1e-300), running)
    return 0.5 * (value + value.mT)


def project_to_psd(gramian: Tensor) -> Tensor:
    """Nearest positive semi-definite matrix (Frobenius): symmetrise, clip eigenvalues at zero.

    Args:
        gramian: (..., K, K).

    Returns:
        (..., K, K) float64.
    """
    values, vectors = torch.linalg.eigh(0.5 * (gramian + gramian.mT).double())
    clipped = (vectors * values.clamp(min=0.0).unsqueeze(-2)) @ vectors.mT
    return 0.5 * (clipped + clipped.mT)


def conflict_rate(cosines: Tensor, counted: Tensor) -> Tensor:
    """(...) float64 share of counted pairs whose cosine is negative; 0 if none counts.

    Args:
        cosines: (..., K, K).
        counted: (..., K, K) bool.
    """
    negative = (counted & (cosines < 0)).sum(dim=(-2, -1)).double()
    return negative / counted.sum(dim=(-2, -1)).clamp(min=1)
