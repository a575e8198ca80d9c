# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from espnet_objsoup.weighting import RunningGramian, conflict_rate, project_to_psd, step_gramian
from espnet_objsoup.weighting.gramian_estimate import DIAGONAL_FLOOR


def sums(gradients: Tensor, members: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Numerators, pairs, ||mean||^2 and the biased Gramian of one batch.

    Args:
        gradients: (K, B, P) of every utterance and objective.
        members: (K, B) bool.
    """
    own = gradients * members.unsqueeze(-1)
    total = own.sum(dim=1)
    common = torch.einsum("kbp,lbp->kl", own, own)
    counts = members.double().sum(dim=1)
    pairs = torch.outer(counts, counts) - members.double() @ members.double().T
    product = total @ total.T
    mean = product / torch.outer(counts, counts).clamp(min=1)
    return product - common, pairs, mean.diagonal(), mean


def test_u_statistic_is_the_mean_over_explicit_pairs() -> None:
    torch.manual_seed(0)
    gradients = torch.randn(2, 5, 3, dtype=torch.float64)
    members = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]]).bool()
    numerators, pairs, _, _ = sums(gradients, members)
    for k in range(2):
        for n in range(2):
            products = [
                float(gradients[k, b] @ gradients[n, c])
                for b in range(5)
                for c in range(5)
                if b != c and members[k, b] and members[n, c]
            ]
            assert pairs[k, n] == len(products)
            assert float(numerators[k, n]) == pytest.approx(sum(products))


def test_expectation_is_the_gramian_of_expected_gradients() -> None:
    # asr/fr and st/fr share utterances and their noise; asr/de is absent from half of the batches;
    # two ranks with different numbers of utterances.
    generator = torch.Generator().manual_seed(1)
    mean = torch.tensor([[1.0, 0.0, 0.5], [-0.5, 1.0, 0.0], [0.2, -1.0, 0.3]]).double()
    truth = mean @ mean.T
    numerators, pairs = torch.zeros(3, 3).double(), torch.zeros(3, 3).double()
    biased = []
    for batch in range(6000):
        for utterances in (4, 6):
            shared = torch.randn(1, utterances, 3, generator=generator).double()
            private = torch.randn(3, utterances, 3, generator=generator).double()
            gradients = mean.unsqueeze(1) + 1.5 * shared + 0.5 * private
            members = torch.zeros(3, utterances, dtype=torch.bool)
            members[:2, : utterances // 2] = True
            members[2, utterances // 2 :] = batch % 2 == 0
            numerator, pair, _, plain = sums(gradients, members)
            numerators += numerator
            pairs += pair
            biased.append(plain[0, 1])
    assert torch.allclose(numerators / pairs, truth, atol=0.12)
    # The same test refuses the Gramian of a batch: it says that fr's objectives agree.
    assert float(truth[0, 1]) < -0.4 < 1.0 < float(torch.stack(biased).mean())


def test_running_estimate_beats_one_batch_at_sample_size_50() -> None:
    generator = torch.Generator().manual_seed(2)
    mean = torch.tensor([[1.0, 0.0], [-0.6, 0.8]]).double()
    truth = mean @ mean.T
    members = torch.ones(2, 6, dtype=torch.bool)
    errors, single = [], []
    for _ in range(20):
        estimate = RunningGramian(2)
        while float(estimate.effective_sample_size().min()) < 50:
            noise = 2.0 * torch.randn(1, 6, 2, generator=generator).double()
            numerators, pairs, norms, plain = sums(mean.unsqueeze(1) + noise, members)
            estimate.update(numerators, pairs, norms)
        errors.append(float((estimate.gramian() - truth).norm()))
        single.append(float((plain - truth).norm()))
    assert sum(errors) < 0.5 * sum(single)


def test_entries_without_pairs_keep_their_value() -> None:
    estimate = RunningGramian(2, decay=0.5)
    ones = torch.ones(2, 2).double()
    estimate.update(6 * ones, 3 * ones, torch.tensor([1.0, 4.0]))
    before = estimate.state_dict()
    pairs = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    estimate.update(12 * pairs / 3, pairs, torch.tensor([9.0, 0.0]))
    assert estimate.gramian()[0, 0] == pytest.approx((0.25 * 6 + 0.5 * 12) / (0.75 * 3))
    assert estimate.gramian()[0, 1] == estimate.gramian()[1, 1] == 2.0
    after = estimate.state_dict()
    assert all(torch.equal(after[name][1], before[name][1]) for name in before if name != "decay")
    assert torch.allclose(estimate.total_pairs, torch.tensor([[6.0, 3.0], [3.0, 3.0]]).double())


def test_sample_size_counts_refreshes_up_to_the_decays_limit() -> None:
    estimate = RunningGramian(1, decay=0.9)
    one = torch.ones(1, 1)
    sizes = []
    for _ in range(200):
        estimate.update(one, one, torch.ones(1))
        sizes.append(float(estimate.effective_sample_size()))
    assert sizes[0] == pytest.approx(1.0)
    # Two refreshes with weights .9 and 1: 1.9^2 / 1.81.
    assert sizes[1] == pytest.approx(1.9**2 / 1.81)
    assert sizes[-1] == pytest.approx((1 + 0.9) / (1 - 0.9))


def test_cosines_are_floored_clipped_and_counted() -> None:
    estimate = RunningGramian(3)
    gramian = torch.tensor([[4.0, -2.0, 9.0], [-2.0, 1.0, 0.5], [9.0, 0.5, -1.0]]).double()
    norms = torch.tensor([4.0, 1.0, 50.0])
    pairs = torch.full((3, 3), 40.0).double()
    pairs[0, 1] = pairs[1, 0] = 20.0
    estimate.update(gramian * pairs, pairs, norms)
    cosines, counted = estimate.cosines()
    # d_3 = .02 * 50 = 1, as its own diagonal is negative.
    assert float(cosines[1, 2]) == pytest.approx(0.5)
    assert DIAGONAL_FLOOR == 0.02
    assert float(cosines[0, 2]) == 1.0
    assert counted.tolist() == [[False, False, True], [False, False, True], [True, True, False]]
    assert float(conflict_rate(cosines, counted)) == 0.0
    estimate.update(gramian * pairs, pairs, norms)
    assert float(conflict_rate(*estimate.cosines())) == pytest.approx(1 / 3)


def test_layers_are_estimated_side_by_side() -> None:
    torch.manual_seed(3)
    numerators = torch.randn(4, 3, 3).double()
    numerators = numerators + numerators.mT
    pairs, norms = torch.full((3, 3), 31.0), torch.rand(4, 3)
    together = RunningGramian(3, layers=(4,))
    together.update(numerators, pairs, norms)
    for layer in range(4):
        alone = RunningGramian(3)
        alone.update(numerators[layer], pairs, norms[layer])
        assert torch.equal(together.gramian()[layer], alone.gramian())
        assert torch.equal(together.cosines()[0][layer], alone.cosines()[0])
        assert together.scale()[layer] == alone.scale()
    # A layer that was not measured has no pairs.
    together.update(numerators, pairs * torch.tensor([1, 0, 1, 1]).view(4, 1, 1), norms)
    assert torch.equal(together.total_pairs[1], pairs.double())
    assert conflict_rate(*together.cosines()).shape == (4,)


def test_scale_is_positive_however_the_first_diagonal_turns_out() -> None:
    estimate = RunningGramian(2)
    pairs = torch.full((2, 2), 2.0)
    estimate.update(-torch.eye(2), pairs, torch.tensor([1.0, 3.0]))
    # One refresh is worth one: the mean gradients' norms.
    assert float(estimate.scale()) == pytest.approx(2.0)
    assert float(RunningGramian(2).scale()) == 1.0


def test_step_gramian_fills_gaps_from_the_running_one() -> None:
    numerators = torch.tensor([[6.0, 0.0], [0.0, 0.0]])
    pairs = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    running = torch.tensor([[1.0, 0.5], [0.5, 7.0]]).double()
    assert step_gramian(numerators, pairs, running).tolist() == [[3.0, 0.5], [0.5, 7.0]]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10_000))
def test_projection_is_the_nearest_semi_definite_matrix(n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(n, n, generator=generator).double()
    projected = project_to_psd(matrix)
    assert torch.equal(projected, projected.T)
    assert float(torch.linalg.eigvalsh(projected).min()) >= -1e-12
    # Optimality in a closed convex cone: the remainder is orthogonal to it and negative.
    rest = 0.5 * (matrix + matrix.T) - projected
    assert float((rest * projected).sum()) == pytest.approx(0.0, abs=1e-10)
    assert float(torch.linalg.eigvalsh(rest).max()) <= 1e-12
