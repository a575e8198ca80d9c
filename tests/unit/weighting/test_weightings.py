# SPDX-License-Identifier: Apache-2.0
"""Every weighting, as `resolve_levels` configures it."""

from importlib.util import find_spec

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from espnet_objsoup.objectives import WEIGHTINGS, SoupConfError, resolve_levels
from espnet_objsoup.objectives.weighting_table import LOSSES, MIN_SAMPLE_SIZE, NOTHING, RUNNING
from espnet_objsoup.weighting.base import Weighting, WeightingInput, accept
from espnet_objsoup.weighting.registry import BUILDERS, build_weighting

NAMES = ("asr/ca", "asr/de", "asr/fr", "asr/zh")
RANDOM = ("random", "pcgrad", "gradvac")


def installed(name: str) -> bool:
    return all(find_spec(package) for package in WEIGHTINGS[name].packages)


def needs(name: str) -> pytest.param:
    reason = f'pip install "torchjd[{WEIGHTINGS[name].extra}]"'
    return pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=reason))


ALL = [needs(name) for name in WEIGHTINGS]
ON_GRAMIAN = [needs(name) for name, info in WEIGHTINGS.items() if info.needs == RUNNING]
ON_LOSSES = [needs(name) for name, info in WEIGHTINGS.items() if info.needs == LOSSES]


def build(name: str, conf: dict | None = None) -> Weighting:
    soup = {"levels": [{"objectives": ["*"], "weighting": name, "weighting_conf": conf or {}}]}
    return build_weighting(resolve_levels(soup, NAMES)[0])


def gramian(seed: int, parameters: int = 20) -> Tensor:
    jacobian = torch.randn(4, parameters, generator=torch.Generator().manual_seed(seed)).double()
    matrix = jacobian @ jacobian.T
    return matrix / matrix.diagonal().mean()


def inputs(matrix: Tensor, losses: Tensor | None = None, **kwargs) -> WeightingInput:
    values = {
        "step": matrix,
        "running": matrix,
        "sample_size": MIN_SAMPLE_SIZE,
        "losses": torch.tensor([1.0, 2.0, 0.5, 1.5]).double() if losses is None else losses,
        "present": torch.ones(len(matrix), dtype=torch.bool),
        "interval": 1,
        "epoch": 1,
    }
    return WeightingInput(**{**values, **kwargs})


def test_every_weighting_can_be_built() -> None:
    assert set(BUILDERS) == set(WEIGHTINGS)


@pytest.mark.parametrize("name", ALL)
def test_weights_are_finite_and_sum_to_one(name: str) -> None:
    weighting = build(name)
    weights = build("uniform").initial()
    for seed in range(5):
        losses = 1 + torch.rand(4, generator=torch.Generator().manual_seed(seed)).double()
        proposed = weighting.update(inputs(gramian(seed, 4), losses, epoch=1 + seed), weights)
        weights, usable = accept(proposed, weights, torch.ones(4, dtype=torch.bool))
        assert usable
        assert weights.dtype == torch.float64
        assert weights.isfinite().all()
        assert float(weights.sum()) == pytest.approx(1.0)
    if WEIGHTINGS[name].needs != NOTHING:
        assert not torch.allclose(weights, torch.full((4,), 0.25).double())


@pytest.mark.parametrize("name", ON_GRAMIAN)
def test_noisy_estimates_are_not_used(name: str) -> None:
    weighting = build(name)
    noisy = inputs(gramian(0), sample_size=MIN_SAMPLE_SIZE - 0.1)
    assert weighting.update(noisy, weighting.initial()) is None


@pytest.mark.parametrize("name", [name for name in ON_GRAMIAN if name.values[0] not in RANDOM])
def test_order_of_objectives_does_not_matter(name: str) -> None:
    if name == "pcd":
        pytest.skip("pcd's first objective is special by definition")
    order = torch.tensor([2, 0, 3, 1])
    matrix, start = gramian(6), torch.full((4,), 0.25).double()
    everyone = torch.ones(4, dtype=torch.bool)
    direct, _ = accept(build(name).update(inputs(matrix), start), start, everyone)
    shuffled = inputs(matrix[order][:, order])
    permuted, _ = accept(build(name).update(shuffled, start), start, everyone)
    # Nash-MTL's solver stops at 1e-3.
    assert torch.allclose(direct[order], permuted, atol=2e-3 if name == "nash_mtl" else 1e-4)


@pytest.mark.parametrize("name", ALL)
def test_memory_survives_a_checkpoint(name: str, tmp_path) -> None:
    before, after = build(name), build(name)
    weights = before.initial()
    for seed in range(3):
        torch.manual_seed(seed)
        before.update(inputs(gramian(seed), epoch=1 + seed), weights)
    torch.save(before.state_dict(), tmp_path / "state.pth")
    after.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    for seed in range(3, 6):
        answers = []
        for weighting in (before, after):
            torch.manual_seed(seed)
            losses = torch.rand(4, generator=torch.Generator().manual_seed(seed)).double()
            answers.append(weighting.update(inputs(gramian(seed), losses, epoch=seed), weights))
        assert answers[0] is answers[1] is None or torch.equal(*answers)


def test_mgda_increases_no_objective() -> None:
    # Frank-Wolfe leaves a gap of about 1 / iterations.
    check_descent("mgda", 2e-3)


@pytest.mark.parametrize("name", [needs("upgrad"), needs("dualproj")])
def test_dual_cone_weightings_increase_no_objective(name: str) -> None:
    check_descent(name, 1e-6)


def check_descent(name: str, tolerance: float) -> None:
    """Invariant 4: <direction, g_k> >= 0 up to what the solver leaves, on conflicting gradients."""
    weighting = build(name)
    conflicts = 0
    for seed in range(30):
        matrix = gramian(seed, parameters=4)
        conflicts += int((matrix.sum(dim=0) < 0).any())
        weights, _ = accept(
            weighting.update(inputs(matrix), weighting.initial()),
            weighting.initial(),
            torch.ones(4, dtype=torch.bool),
        )
        assert float((matrix @ weights).min()) >= -tolerance
    # The plain average would have increased some objective.
    assert conflicts >= 5


def test_mgda_finds_the_least_norm() -> None:
    # Two objectives: w_1 = (G_22 - G_12) / (G_11 + G_22 - 2 G_12).
    matrix = torch.tensor([[1.0, -0.3], [-0.3, 2.0]]).double()
    level = resolve_levels({"recipe": "flat", "weighting": "mgda"}, NAMES[:2])[0]
    weights = build_weighting(level).update(
        inputs(matrix, present=torch.ones(2, dtype=torch.bool)), torch.full((2,), 0.5).double()
    )
    assert weights[0] == pytest.approx(2.3 / 3.6, abs=1e-6)


@pytest.mark.parametrize("name", ["mgda", needs("upgrad"), "imtl_g", "aligned_mtl", "pcd"])
def test_answers_are_those_of_torchjd(name: str) -> None:
    import torchjd.aggregation as torchjd

    matrix = gramian(7)
    theirs = {
        "mgda": lambda: torchjd.MGDAWeighting(epsilon=1e-6, max_iters=1000),
        "upgrad": lambda: torchjd.UPGradWeighting(),
        "imtl_g": lambda: torchjd.IMTLGWeighting(),
        "aligned_mtl": lambda: torchjd.AlignedMTLWeighting(scale_mode="rmse"),
        "pcd": lambda: torchjd.PCDWeighting(),
    }[name]()(matrix)
    ours = build(name).update(inputs(matrix), torch.full((4,), 0.25).double())
    # UPGrad differs by TorchJD's larger reg_eps.
    assert torch.allclose(ours, theirs, rtol=1e-3 if name == "upgrad" else 1e-12)


def test_closed_forms_of_scalarizers() -> None:
    losses = torch.tensor([1.0, 2.0, 0.5, 1.5]).double()
    start = torch.full((4,), 0.25).double()

    def weights(name: str, conf: dict | None = None) -> Tensor:
        proposed = build(name, conf).update(inputs(torch.eye(4).double(), losses), start)
        return proposed / proposed.sum()

    inverse = 1 / losses
    assert torch.allclose(weights("geometric_mean"), inverse / inverse.sum())
    assert torch.allclose(weights("stch"), (losses / 4 / 0.1).softmax(0))
    # One step of the log-variances: s = -lr/2 (1 - L), weight exp(-s) / 2.
    uw = torch.exp(0.5 * 0.1 * (1 - losses))
    assert torch.allclose(weights("uw", {"lr": 0.1}), uw / uw.sum())
    assert torch.allclose(weights("cosmos", {"lambda": 0.0}), start)


def test_learned_scales_converge_to_inverse_losses() -> None:
    # The minimum of exp(-s) L / 2 + s / 2 is at exp(s) = L.
    weighting = build("uw", {"lr": 0.5})
    losses = torch.tensor([1.0, 2.0, 0.5, 1.5]).double()
    for _ in range(300):
        weights = weighting.update(inputs(torch.eye(4).double(), losses), weighting.initial())
    assert torch.allclose(weights / weights[0], 1 / losses, atol=1e-4)


def test_dwa_prefers_what_falls_slowly() -> None:
    weighting = build("dwa")
    for epoch, losses in enumerate(([2.0, 2, 2, 2], [1.0, 2, 2, 2], [1.0, 2, 2, 2]), start=1):
        values = torch.tensor(losses).double()
        for _ in range(3):
            weights = weighting.update(
                inputs(torch.eye(4).double(), values, epoch=epoch), weighting.initial()
            )
    # Ratios of the first two epochs' means: 1/2 and 1; temperature 2.
    expected = torch.tensor([0.5, 1, 1, 1]).double().div(2).softmax(0)
    assert torch.allclose(weights / weights.sum(), expected)


@pytest.mark.parametrize("name", ON_LOSSES)
def test_losses_never_seen_keep_the_weights(name: str) -> None:
    losses = torch.tensor([1.0, float("nan"), 1.0, 1.0]).double()
    weighting = build(name)
    assert weighting.update(inputs(torch.eye(4).double(), losses), weighting.initial()) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.booleans(), min_size=4, max_size=4))
def test_absent_objectives_keep_their_weight(seed: int, present: list[bool]) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights, proposed = torch.rand(2, 4, generator=generator).double()
    weights /= weights.sum()
    mask = torch.tensor(present)
    updated, usable = accept(proposed, weights, mask)
    assert usable
    assert torch.equal(updated[~mask], weights[~mask])
    assert float(updated.sum()) == pytest.approx(1.0)
    if mask.sum() > 1:
        ratio = updated[mask] / proposed[mask]
        assert torch.allclose(ratio, ratio[0].expand_as(ratio))


@pytest.mark.parametrize(
    "proposed", [[0.0, 0.0], [float("nan"), 1.0], [1.0, -0.9], [-1.0, -1.0], [float("inf"), 1.0]]
)
def test_unusable_answers_keep_the_weights(proposed: list[float]) -> None:
    weights = torch.tensor([0.3, 0.7]).double()
    everyone = torch.ones(2, dtype=torch.bool)
    result, usable = accept(torch.tensor(proposed).double(), weights, everyone)
    assert not usable
    assert torch.equal(result, weights)


def test_smoothing_averages_over_refreshes() -> None:
    weights = torch.tensor([0.5, 0.5]).double()
    proposed = torch.tensor([2.0, 0.0]).double()
    result, _ = accept(proposed, weights, torch.ones(2, dtype=torch.bool), smoothing=0.9)
    assert result.tolist() == pytest.approx([0.55, 0.45])


def test_a_solver_that_gives_up_keeps_the_weights() -> None:
    weighting = build("mgda")

    def fail(matrix: Tensor) -> Tensor:
        raise ValueError("Failed to solve the quadratic programming problem.")

    weighting.rule = fail
    assert weighting.update(inputs(gramian(0)), weighting.initial()).isnan().all()


def test_preference_is_by_objective_and_normalised() -> None:
    weighting = build("stch", {"preference": {"asr/de": 3, "*": 1}})
    assert weighting.scalarizer.weights.tolist() == pytest.approx([1 / 6, 0.5, 1 / 6, 1 / 6])


def test_preference_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(SoupConfError, match="preference"):
        build("stch", {"preference": 1.0})


@pytest.mark.parametrize("name", ["uw", "imtl_l"])
def test_learned_scales_of_absent_objectives_stay(name: str) -> None:
    weighting = build(name)
    present = torch.tensor([True, False, True, True])
    losses = torch.tensor([0.5, 2.0, 2.0, 0.5]).double()
    weighting.update(inputs(gramian(0), losses, present=present), weighting.initial())
    assert (weighting.state_dict()["learned"] != 0).tolist() == present.tolist()
