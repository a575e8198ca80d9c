# SPDX-License-Identifier: Apache-2.0
import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from espnet_objsoup.objectives import resolve_levels
from espnet_objsoup.weighting import NonFiniteGramianError, Soup, SoupMismatchError

NAMES = ("asr/de", "asr/fr", "st/fr-en", "ssl")
LABELLED = NAMES[:3]
MULTILEVEL = {"recipe": "multilevel"}


def make(conf: dict, names: tuple[str, ...] = NAMES, **kwargs) -> Soup:
    return Soup(resolve_levels(conf, names), names, **kwargs)


def refresh_input(seed: int, n: int = 4, absent: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """A refresh of exact gradients with a common mean, scaled as real ones might be."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(n, 6, generator=torch.Generator().manual_seed(99)).double()
    jacobian = 30 * (mean + 0.3 * torch.randn(n, 6, generator=generator).double())
    counts = torch.randint(3, 8, (n,), generator=generator)
    counts[list(absent)] = 0
    pairs = torch.outer(counts, counts).double() - torch.diag(counts).double()
    present = (counts > 0).double()
    gramian = jacobian @ jacobian.T
    losses = 1 + torch.rand(n, generator=generator).double()
    return {
        "numerators": gramian * pairs,
        "pairs": pairs,
        "mean_norms2": gramian.diagonal() * present,
        "losses": torch.where(counts > 0, losses, torch.nan),
        "counts": counts,
    }


def level_sums(soup: Soup) -> list[float]:
    return [float(soup.weights[rows].sum()) for rows in soup.rows]


def test_static_coefficients_are_the_configured_weights() -> None:
    soup = make({"weighting_conf": {"weights": {"*": 0.3, "ssl": 2}}})
    for seed in range(3):
        soup.begin_epoch(1 + seed)
        soup.refresh(**refresh_input(seed))
        assert soup.coefficients.tolist() == [0.3, 0.3, 0.3, 2.0]
    assert make({}).coefficients.tolist() == [1.0] * 4
    # It measures nevertheless.
    assert soup.report()["soup_sample_size/1"] > 2


def test_static_levels_weigh_one_each() -> None:
    conf = {"recipe": "bilevel", "weighting": "static", "weighting_conf": {"weights": {"*": 4}}}
    soup = make(conf, LABELLED)
    assert soup.weights.tolist() == [0.5, 0.5, 1.0]
    assert soup.coefficients.tolist() == pytest.approx([0.5, 0.5, 0.1])


@pytest.mark.parametrize(
    ("epoch", "levels"), [(1, (1, 0.1, 0)), (46, (1, 1, 0.9)), (76, (1, 1.5, 2.25))]
)
def test_coefficients_are_level_times_weight(epoch: int, levels: tuple) -> None:
    soup = make(MULTILEVEL)
    soup.begin_epoch(epoch)
    first, second, third = levels
    assert soup.coefficients.tolist() == pytest.approx([first / 2, first / 2, second, third])


@pytest.mark.parametrize("recipe", ["flat", "constrained", "multilevel"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), absent=st.sets(st.integers(0, 3)))
def test_every_level_stays_on_its_simplex(recipe: str, seed: int, absent: set[int]) -> None:
    soup = make({"recipe": recipe, "weighting_conf": {"gamma": 1.0}})
    soup.refresh(**refresh_input(seed))
    before = soup.weights.clone()
    soup.refresh(**refresh_input(seed + 1, absent=tuple(absent)))
    assert torch.equal(soup.weights[list(absent)], before[list(absent)])
    assert (soup.weights >= 0).all()
    assert level_sums(soup) == pytest.approx([1.0] * len(soup.levels))


def test_first_refresh_is_modos_update_by_hand() -> None:
    soup = make({"recipe": "flat", "weighting_conf": {"gamma": 0.1}}, weights_interval=2)
    data = refresh_input(5)
    soup.refresh(**data)
    gramian = data["numerators"] / data["pairs"]
    gramian = gramian / gramian.diagonal().mean()
    start = torch.full((4,), 0.25).double()
    moved = start - 2 * 0.1 * (gramian @ start + 0.1 * start)
    # Nothing hits the border here: projecting removes the mean.
    assert torch.allclose(soup.weights, moved - moved.mean() + 0.25)


@pytest.mark.parametrize("weighting", ["modo", "mgda", "imtl_g", "sdmgrad"])
def test_scale_of_the_gradients_does_not_matter(weighting: str) -> None:
    conf = {"recipe": "flat", "weighting": weighting}
    if weighting == "mgda":
        conf["weighting_conf"] = {"max_iters": 50}
    small, large = make(conf), make(conf)
    for seed in range(80):
        data = refresh_input(seed)
        small.refresh(**data)
        for name in ("numerators", "mean_norms2"):
            data[name] = data[name] * 1e6
        large.refresh(**data)
    assert torch.allclose(small.weights, large.weights, atol=1e-6)
    assert not torch.allclose(small.weights, torch.full((4,), 0.25).double())


def rescaled(data: dict[str, Tensor], factors: Tensor) -> dict[str, Tensor]:
    """The same refresh with longer or shorter gradients."""
    return {
        **data,
        "numerators": data["numerators"] * torch.outer(factors, factors),
        "mean_norms2": data["mean_norms2"] * factors**2,
    }


@pytest.mark.parametrize("weighting", ["modo", "mgda", "aligned_mtl"])
def test_weights_from_cosines_do_not_depend_on_lengths(weighting: str) -> None:
    factors = torch.tensor([1.0, 20.0, 0.1, 3.0]).double()
    weights = {}
    for matrix in ("gramian", "cosines"):
        conf = {"recipe": "flat", "weighting": weighting, "weighting_conf": {"matrix": matrix}}
        plain, other = make(conf), make(conf)
        for seed in range(80):
            data = refresh_input(seed)
            plain.refresh(**data)
            other.refresh(**rescaled(data, factors))
        weights[matrix] = plain.weights, other.weights
    assert torch.allclose(*weights["cosines"], atol=1e-5)
    assert not torch.allclose(*weights["gramian"], atol=0.02)
    # It weighs angles: it does not stay where it began.
    assert not torch.allclose(weights["cosines"][0], torch.full((4,), 0.25).double(), atol=0.02)


def test_first_refresh_from_cosines_by_hand() -> None:
    conf = {"recipe": "flat", "weighting_conf": {"gamma": 0.1, "matrix": "cosines"}}
    soup = make(conf)
    data = refresh_input(5)
    soup.refresh(**data)
    gramian = data["numerators"] / data["pairs"]
    norms = gramian.diagonal().sqrt()
    start = torch.full((4,), 0.25).double()
    moved = start - 0.1 * (gramian / torch.outer(norms, norms) @ start + 0.1 * start)
    assert torch.allclose(soup.weights, moved - moved.mean() + 0.25)


def test_cosines_have_no_noise_where_they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch's own squared lengths are noise, most of it where gradients are noisiest."""
    soup = make({"recipe": "flat", "weighting_conf": {"matrix": "cosines"}}, LABELLED)
    seen = []
    update = soup.weightings[0].update
    monkeypatch.setattr(
        soup.weightings[0], "update", lambda x, weights: seen.append(x) or update(x, weights)
    )
    generator = torch.Generator().manual_seed(1)
    noise = torch.tensor([0.1, 10.0, 10.0]).double()[:, None, None]
    pairs = 64.0 - 8.0 * torch.eye(3).double()
    for _ in range(100):
        drawn = torch.randn(3, 8, 12, generator=generator).double()
        rows = torch.eye(3, 12).double()[:, None] + noise * drawn / 12**0.5
        sums = rows.sum(1)
        # Every utterance belongs to one objective.
        numerators = sums @ sums.T - torch.diag(rows.square().sum((1, 2)))
        means = sums.square().sum(1) / 64
        soup.refresh(numerators, pairs, means, torch.ones(3), torch.full((3,), 8))
    for inputs in seen:
        assert inputs.step.diagonal().tolist() == [1.0] * 3
        # It is made positive semi-definite after that, which moves it a little.
        assert torch.allclose(inputs.running.diagonal(), torch.ones(3).double(), atol=0.35)
    last = seen[-1].running
    assert (last.abs() <= 1 + 1e-9).all()
    assert last[0, 1].abs() < 0.2
    # What a single batch says of a pair is not cut off: it would be biased then.
    assert max(float(inputs.step[1, 2].abs()) for inputs in seen) > 1


def test_cosines_of_an_objective_never_seen() -> None:
    conf = {"recipe": "flat", "weighting_conf": {"matrix": "cosines"}}
    soup = make(conf)
    for seed in range(5):
        soup.refresh(**refresh_input(seed, absent=(2,)))
    assert soup.weights[2] == 0.25
    assert soup.weights.isfinite().all()


def test_weightings_wait_for_a_good_estimate() -> None:
    soup = make({"recipe": "flat", "weighting": "mgda"})
    sizes = []
    for seed in range(80):
        soup.refresh(**refresh_input(seed))
        sizes.append(soup.report()["soup_sample_size/1"])
        uniform = soup.weights.tolist() == [0.25] * 4
        assert uniform == (sizes[-1] < 50)
    assert sizes[0] == pytest.approx(1.0)
    assert sizes[-1] > 50


def test_an_objective_never_seen_is_not_taken_for_zero() -> None:
    # A zero row would attract all of MGDA's weight.
    soup = make({"recipe": "flat", "weighting": "mgda"})
    for seed in range(80):
        soup.refresh(**refresh_input(seed, absent=(2,)))
    assert soup.sample_size() == 0.0
    assert soup.weights.tolist() == [0.25] * 4


@pytest.mark.parametrize(
    ("entry", "position", "message"),
    [
        ("numerators", (1, 2), r"numerators\[asr/fr, st/fr-en\]"),
        ("pairs", (0, 0), r"pairs\[asr/de, asr/de\]"),
        ("mean_norms2", (3,), r"mean_norms2\[ssl\]"),
        ("losses", (0,), r"losses\[asr/de\]"),
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_numbers_change_nothing(
    entry: str, position: tuple, message: str, value: float
) -> None:
    soup = make(MULTILEVEL)
    soup.refresh(**refresh_input(0))
    before = copy.deepcopy(soup.state_dict())
    data = refresh_input(1)
    data[entry][position] = value
    with pytest.raises(NonFiniteGramianError, match=message):
        soup.refresh(**data, epoch=9)
    assert_same(soup.state_dict(), before)


def assert_same(found: object, expected: object) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            assert_same(found[name], expected[name])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_same(*pair)
    elif isinstance(expected, Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


BARRIER = {"penalty": "barrier"}


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"recipe": "flat", "weighting": "pcgrad"},
        {"recipe": "flat", "weighting": "gradvac"},
        {"recipe": "flat", "weighting": "random"},
        {"recipe": "constrained", "weighting": "uw"},
        {"recipe": "constrained", "weighting": "dwa"},
        {**MULTILEVEL, "weighting": "pcd"},
        {**MULTILEVEL, **BARRIER},
        {**MULTILEVEL, **BARRIER, "weighting": "mgda", "weighting_conf": {"max_iters": 20}},
    ],
)
def test_resumed_equals_uninterrupted(conf: dict, tmp_path) -> None:
    def run(soup: Soup, refreshes: range) -> None:
        for seed in refreshes:
            torch.manual_seed(seed)
            soup.refresh(
                **refresh_input(seed, absent=(seed % 4,)[: seed % 2]), epoch=1 + seed // 30
            )

    whole, first, second = make(conf), make(conf), make(conf, seed=7)
    run(whole, range(160))
    run(first, range(120))
    torch.save(first.state_dict(), tmp_path / "soup.pth")
    second.load_state_dict(torch.load(tmp_path / "soup.pth", weights_only=True))
    run(second, range(120, 160))
    assert_same(second.state_dict(), whole.state_dict())
    assert torch.equal(second.coefficients, whole.coefficients)
    assert whole.sample_size() > 50
    assert second.report() == whole.report()


def test_a_state_is_not_changed_by_what_follows() -> None:
    soup = make(MULTILEVEL)
    soup.refresh(**refresh_input(0))
    state = soup.state_dict()
    kept = copy.deepcopy(state)
    soup.refresh(**refresh_input(1))
    assert_same(state, kept)


def test_states_of_other_soups_are_refused() -> None:
    state = make(MULTILEVEL).state_dict()
    with pytest.raises(SoupMismatchError, match="asr/de; asr/fr; st/fr-en; ssl, .* asr/de; asr/fr"):
        make({"recipe": "bilevel"}, LABELLED).load_state_dict(state)
    with pytest.raises(SoupMismatchError, match=r"ssl \(modo, penalty linear\), the configuration"):
        make({"recipe": "constrained"}).load_state_dict(state)
    with pytest.raises(SoupMismatchError, match=r"\(mgda, penalty none\)"):
        make({**MULTILEVEL, "weighting": "mgda"}).load_state_dict(state)
    with pytest.raises(SoupMismatchError, match="expected format 1, found 99"):
        make(MULTILEVEL).load_state_dict({**state, "version": 99})
    # Options may differ: a resumed run may take smaller steps.
    make({**MULTILEVEL, "weighting_conf": {"gamma": 0.01}}).load_state_dict(state)


def test_fixed_weights_are_those_of_the_configuration() -> None:
    state = make({}).state_dict()
    soup = make({"weighting_conf": {"weights": {"*": 0.5}}})
    soup.load_state_dict(state)
    assert soup.coefficients.tolist() == [0.5] * 4


@pytest.mark.parametrize("weighting", ["random", "pcgrad", "gradvac"])
def test_random_weightings_are_seeded_and_leave_the_generator_alone(weighting: str) -> None:
    def run(global_seed: int, seed: int) -> Tensor:
        soup = make({"recipe": "flat", "weighting": weighting}, seed=seed)
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        for number in range(70):
            soup.refresh(**refresh_input(number))
        assert torch.equal(torch.get_rng_state(), before)
        return soup.weights

    assert torch.equal(run(0, 3), run(1, 3))
    if weighting == "random":
        assert not torch.equal(run(0, 3), run(0, 4))


def test_report_has_the_same_names_throughout() -> None:
    soup = make({**MULTILEVEL, **BARRIER})
    names = soup.report().keys()
    for seed in range(60):
        soup.refresh(**refresh_input(seed))
    report = soup.report()
    assert report.keys() == names
    assert {"soup_weight/asr/fr", "soup_coefficient/ssl", "soup_level_coefficient/3"} <= set(names)
    assert {"soup_conflict/all", "soup_conflict/1", "soup_barrier_dropped/2"} <= set(names)
    assert all(isinstance(value, float) for value in report.values())
    cosines, counted = soup.estimate.cosines()
    pairs = cosines[counted]
    assert report["soup_conflict/all"] == pytest.approx(float((pairs < 0).double().mean()))


def barrier_soup(target: float | None, **options: float) -> Soup:
    conf = {"recipe": "bilevel", **BARRIER, "penalty_conf": {"target": target, **options}}
    return make(conf, ("asr/fr", "st/fr-en"))


def opposed(loss: float) -> dict[str, Tensor]:
    gramian = torch.tensor([[1.0, -0.5], [-0.5, 1.0]]).double()
    pairs = torch.full((2, 2), 20.0).double()
    return {
        "numerators": gramian * pairs,
        "pairs": pairs,
        "mean_norms2": torch.ones(2).double(),
        "losses": torch.tensor([1.0, loss]).double(),
        "counts": torch.tensor([5, 5]),
    }


def test_barrier_has_the_closed_form_once_the_estimate_is_good() -> None:
    soup = barrier_soup(target=1.0, alpha=2.0, beta=0.5)
    for _ in range(80):
        soup.refresh(**opposed(1.1))
        if soup.sample_size() < 50:
            assert soup.coefficients.tolist() == [1.0, 1.0]
    # phi = min(2 * .1, .5) = .2; eta = (.2 + .5) / 1.
    assert soup.coefficients.tolist() == pytest.approx([1.0, 0.7])
    for _ in range(2):
        soup.refresh(**opposed(3.0))
    # phi = min(4, .5).
    assert soup.coefficients.tolist() == pytest.approx([1.0, 1.0])


def test_barrier_without_target_compares_with_the_running_mean() -> None:
    soup = barrier_soup(target=None, reference_decay=0.9)
    for _ in range(80):
        soup.refresh(**opposed(2.0))
    # At its mean the level may not rise: eta = .5 makes <d, v_2> zero.
    assert float(soup.coefficients[1]) == pytest.approx(0.5)
    soup.refresh(**opposed(2.3))
    assert float(soup.coefficients[1]) == pytest.approx(0.5 + 0.3)
    soup.refresh(**opposed(1.0))
    assert float(soup.coefficients[1]) == 0.0


def test_capped_coefficients_are_counted() -> None:
    soup = barrier_soup(target=None, eta_max=0.25)
    for _ in range(80):
        soup.refresh(**opposed(2.0))
    assert soup.coefficients.tolist() == [1.0, 0.25]
    report = soup.report()
    assert report["soup_barrier_capped/2"] == soup.penalties.solved > 0
    assert report["soup_barrier_dropped/2"] == 0


@pytest.mark.parametrize("weighting", ["modo", "mgda", "krum", "pcgrad", "imtl_g", "uw", "random"])
def test_one_objective_has_weight_one_whatever_the_weighting(weighting: str) -> None:
    soup = make({"recipe": "flat", "weighting": weighting}, NAMES[:1])
    for seed in range(70):
        soup.refresh(**refresh_input(seed, n=1))
    assert soup.coefficients.tolist() == [1.0]
    assert soup.report()["soup_kept/1"] == 0


def test_restarted_estimate_keeps_the_weights_meanwhile() -> None:
    soup = make({"recipe": "flat", "weighting": "imtl_g"})
    for seed in range(80):
        soup.refresh(**refresh_input(seed))
    weights = soup.weights.clone()
    soup.restart_estimate()
    for seed in range(30):
        soup.refresh(**refresh_input(seed + 100))
    assert torch.equal(soup.weights, weights)
    assert 0 < soup.sample_size() < 50
    for seed in range(60):
        soup.refresh(**refresh_input(seed + 200))
    assert not torch.equal(soup.weights, weights)
