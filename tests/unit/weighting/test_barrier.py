# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_objsoup.weighting.barrier import solve_barrier


def feasible(vectors: np.ndarray, phi: np.ndarray, kept: list[int]) -> bool:
    """Whether some d meets <d, v_j> >= phi_j; by linear programming, an independent oracle."""
    from scipy.optimize import linprog

    if not kept:
        return True
    lower = vectors[1:][kept]
    result = linprog(np.zeros(vectors.shape[1]), A_ub=-lower, b_ub=-phi[kept], bounds=(None, None))
    return result.status == 0


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 10_000))
def test_solution_satisfies_kkt(lower: int, dimension: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(lower + 1, dimension))
    phi = random.normal(size=lower)
    solution = solve_barrier(vectors @ vectors.T, phi, np.full(lower, np.inf))
    kept = [j for j in range(lower) if not solution.dropped[j]]
    direction = vectors[0] + solution.coefficients @ vectors[1:]
    slack = vectors[1:] @ direction - phi
    size = 1 + np.abs(solution.coefficients).max()
    assert (solution.coefficients >= 0).all()
    assert (slack[kept] >= -1e-6 * size).all()
    assert np.abs((solution.coefficients * slack)[kept]).max(initial=0.0) < 1e-5 * size**2
    assert not solution.coefficients[solution.dropped].any()
    # Nothing is dropped without need, and the lowest level goes last.
    assert feasible(vectors, phi, kept)
    if solution.dropped.any():
        last = int(solution.dropped.nonzero()[0][-1])
        assert not feasible(vectors, phi, list(range(last, lower)))


@settings(max_examples=100, deadline=None)
@given(st.floats(-3, 3), st.floats(0.05, 3), st.floats(-2, 2), st.floats(0.5, 5))
def test_two_levels_have_the_closed_form(
    product: float, norm2: float, phi: float, eta_max: float
) -> None:
    top = product**2 / norm2 + 1.0
    matrix = np.array([[top, product], [product, norm2]])
    solution = solve_barrier(matrix, np.array([phi]), np.array([eta_max]))
    multiplier = max(0.0, (phi - product) / norm2)
    assert solution.coefficients[0] == pytest.approx(min(multiplier, eta_max), abs=1e-6)
    assert solution.capped[0] == (multiplier > eta_max)


def test_three_levels_are_protected_together() -> None:
    vectors = np.array([[1.0, 0.0], [-0.2, 1.0], [-0.2, -1.0]])
    phi = np.array([0.1, 0.1])
    alone = np.maximum(0.0, (phi - vectors[1:] @ vectors[0]) / (vectors[1:] ** 2).sum(axis=1))
    assert (vectors[1:] @ (vectors[0] + alone @ vectors[1:]) < phi).all()
    solution = solve_barrier(vectors @ vectors.T, phi, np.full(2, 10.0))
    direction = vectors[0] + solution.coefficients @ vectors[1:]
    assert (vectors[1:] @ direction >= phi - 1e-9).all()
    # Both constraints are active: d solves V d = phi.
    assert direction == pytest.approx(np.linalg.solve(vectors[1:], phi))


def test_contradicting_constraint_nearest_the_top_is_dropped() -> None:
    vectors = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    solution = solve_barrier(vectors @ vectors.T, np.array([0.5, 0.5]), np.full(2, 10.0))
    assert solution.dropped.tolist() == [True, False]
    assert solution.coefficients.tolist() == [0.0, 0.5]


def test_a_level_without_gradient_demands_nothing_it_cannot_have() -> None:
    matrix = np.diag([1.0, 0.0])
    assert solve_barrier(matrix, np.array([0.0]), np.array([4.0])).coefficients.tolist() == [0.0]
    assert solve_barrier(matrix, np.array([0.5]), np.array([4.0])).dropped.tolist() == [True]
