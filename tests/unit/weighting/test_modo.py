# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchjd.aggregation import MoDoWeighting

from espnet_objsoup.weighting.base import WeightingInput
from espnet_objsoup.weighting.modo import MoDo, project_onto_simplex

NAMES = ("asr/ca", "asr/de", "asr/fr", "asr/zh")


def inputs(step: torch.Tensor, present: torch.Tensor | None = None, interval: int = 1):
    n = len(step)
    everyone = torch.ones(n, dtype=torch.bool)
    return WeightingInput(
        step=step,
        running=torch.eye(n).double(),
        sample_size=0.0,
        losses=torch.ones(n).double(),
        present=everyone if present is None else present,
        interval=interval,
        epoch=1,
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=8), st.floats(0.01, 10), st.integers(0, 99)
)
def test_projection_is_optimal(values: list[float], total: float, seed: int) -> None:
    point = torch.tensor(values).double()
    nearest = project_onto_simplex(point, total)
    assert (nearest >= 0).all()
    assert float(nearest.sum()) == pytest.approx(total)
    # Variational inequality: no other point of the simplex lies in the point's direction.
    other = torch.rand(len(point), generator=torch.Generator().manual_seed(seed)).double()
    other = total * other / other.sum()
    assert float((point - nearest) @ (other - nearest)) <= 1e-8


@pytest.mark.parametrize(("gamma", "rho"), [(0.1, 0.1), (0.5, 0.0), (2.0, 0.3)])
def test_equals_torchjd_at_fixed_size(gamma: float, rho: float) -> None:
    generator = torch.Generator().manual_seed(4)
    ours = MoDo(NAMES, {"gamma": gamma, "rho": rho})
    theirs = MoDoWeighting(gamma=gamma, rho=rho)
    weights = ours.initial()
    for _ in range(200):
        matrix = torch.randn(4, 4, generator=generator).double()
        weights = ours.update(inputs(matrix), weights)
        assert torch.allclose(weights, theirs(matrix), atol=1e-12)


def test_gamma_is_per_step() -> None:
    matrix = torch.diag(torch.tensor([1.0, 0.5, 0.2, 0.1])).double()
    start = torch.full((4,), 0.25).double()
    rare = MoDo(NAMES, {"gamma": 0.1, "rho": 0.1}).update(inputs(matrix, interval=3), start)
    large = MoDo(NAMES, {"gamma": 0.3, "rho": 0.1}).update(inputs(matrix), start)
    assert torch.allclose(rare, large)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.booleans(), min_size=4, max_size=4))
def test_absent_objectives_keep_their_weight(seed: int, present: list[bool]) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(4, generator=generator).double()
    weights /= weights.sum()
    matrix = 5 * torch.randn(4, 4, generator=generator).double()
    mask = torch.tensor(present)
    updated = MoDo(NAMES, {"gamma": 0.5, "rho": 0.1}).update(inputs(matrix, mask), weights)
    if not mask.any():
        assert updated is None
        return
    assert torch.equal(updated[~mask], weights[~mask])
    assert (updated >= 0).all()
    assert float(updated.sum()) == pytest.approx(1.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_order_of_objectives_does_not_matter(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(4, 4, generator=generator).double()
    order = torch.randperm(4, generator=generator)
    weights = torch.full((4,), 0.25).double()
    modo = MoDo(NAMES, {"gamma": 0.3, "rho": 0.1})
    direct = modo.update(inputs(matrix), weights)[order]
    assert torch.allclose(direct, modo.update(inputs(matrix[order][:, order]), weights[order]))
