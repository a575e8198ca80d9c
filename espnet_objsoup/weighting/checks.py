# SPDX-License-Identifier: Apache-2.0
"""Numbers that must not enter a soup's state."""

from collections.abc import Sequence

import torch
from torch import Tensor


class NonFiniteGramianError(ArithmeticError):
    """A refresh holds NaN or infinity; the soup is as before it."""


def check_finite(
    objectives: Sequence[str],
    numerators: Tensor,
    pairs: Tensor,
    mean_norms2: Tensor,
    losses: Tensor,
    counts: Tensor,
) -> None:
    """Refuse a refresh with NaN or infinity.

    Args:
        objectives: K names.
        numerators: (K, K).
        pairs: (K, K).
        mean_norms2: (K,).
        losses: (K,); entries of absent objectives do not matter.
        counts: (K,).

    Raises:
        NonFiniteGramianError: naming the entries.
    """
    bad = [
        f"{name}[{objectives[k]}, {objectives[n]}]"
        for name, matrix in (("numerators", numerators), ("pairs", pairs))
        for k, n in (~matrix.isfinite()).nonzero().tolist()
        if k <= n or matrix[n, k].isfinite()
    ]
    losses = torch.where(counts > 0, losses, 0.0)
    vectors = (("mean_norms2", mean_norms2), ("losses", losses), ("counts", counts))
    bad += [
        f"{name}[{objectives[k]}]"
        for name, vector in vectors
        for (k,) in (~vector.isfinite()).nonzero().tolist()
    ]
    if bad:
        raise NonFiniteGramianError(
            f"refresh: expected finite numbers, found NaN or infinity in {', '.join(bad)}; the "
            "weights stay as they are"
        )
