# SPDX-License-Identifier: Apache-2.0
"""Dynamic barrier between levels: coefficients from a small quadratic program.

    d = argmin ||d - v_1||^2   subject to   <d, v_j> >= phi_j   for every lower level j
    phi_j = min(alpha_j * (l_j - reference_j), beta_j * ||v_j||^2)

Its solution is d = v_1 + sum_j c_j v_j with the multipliers c_j >= 0.

Sources: Gong, Liu, Liu, NeurIPS 2021; Ye et al., NeurIPS 2022 (both for one constraint).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Relative to the largest number of the problem; eigenvalues of noise were clipped before.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class BarrierSolution:
    """Coefficients of the lower levels and what had to be given up.

    Attributes:
        coefficients: (J-1,) of the lower levels, from the top; within [0, eta_max].
        capped: (J-1,) bool, coefficient cut at eta_max.
        dropped: (J-1,) bool, constraint left out as the others cannot be met with it.
    """

    coefficients: Array
    capped: NDArray[np.bool_]
    dropped: NDArray[np.bool_]


def solve_barrier(matrix: Array, phi: Array, eta_max: Array) -> BarrierSolution:
    """Coefficients of the lower levels.

    Args:
        matrix: (J, J) products of the levels' vectors, top first; symmetric, semi-definite.
        phi: (J-1,) least decrease demanded of every lower level.
        eta_max: (J-1,) largest coefficients.

    If the constraints cannot be met together, the one nearest the top is dropped first: the lowest
    level has priority.
    """
    lower = len(phi)
    for first in range(lower + 1):
        kept = range(first, lower)
        multipliers = _multipliers(matrix, phi, list(kept))
        if multipliers is not None:
            break
    capped = multipliers > eta_max
    return BarrierSolution(np.minimum(multipliers, eta_max), capped, np.arange(lower) < first)


def _multipliers(matrix: Array, phi: Array, kept: Sequence[int]) -> Array | None:
    """(J-1,) multipliers of the program with the constraints `kept`; None if infeasible.

    Every active set is tried, the smallest first: a point that satisfies the KKT conditions of a
    convex program is optimal, and one with independent active constraints exists if any does.
    """
    gram, base = matrix[1:, 1:], matrix[0, 1:]
    size = max(float(np.abs(matrix).max()), float(np.abs(phi).max(initial=0.0)), 1e-300)
    for count in range(len(kept) + 1):
        for active in combinations(kept, count):
            multipliers = np.zeros(len(phi))
            if active:
                rows = list(active)
                block, wanted = gram[np.ix_(rows, rows)], phi[rows] - base[rows]
                if np.linalg.matrix_rank(block, tol=TOLERANCE * size, hermitian=True) < count:
                    continue
                multipliers[rows] = np.linalg.solve(block, wanted)
            slack = (base + gram @ multipliers - phi)[list(kept)]
            reach = size * (1.0 + float(np.abs(multipliers).max(initial=0.0)))
            if (multipliers >= 0).all() and (slack >= -TOLERANCE * reach).all():
                return multipliers
    return None
