# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_objsoup.train.state import (
    MIN_EXPECTED_COUNT,
    ExpectedCounts,
    SoupStateError,
    StateCarrier,
)

NAMES = ("asr/de", "asr/fr")


def test_first_step_uses_its_own_counts() -> None:
    state = ExpectedCounts(NAMES)
    assert state.divisor(torch.tensor([4, 0]), 2).tolist() == [8.0, MIN_EXPECTED_COUNT]


def test_expected_counts_are_the_mean_over_steps_and_micro_batches() -> None:
    state = ExpectedCounts(NAMES)
    for step in ([4, 0], [2, 2]), ([8, 1], [0, 1]):
        for counts in step:
            state.add(torch.tensor(counts))
        state.end_step()
    assert state.mean.tolist() == [7.0, 2.0]
    assert state.divisor(torch.tensor([1, 1]), 2).tolist() == [7.0, 2.0]
    assert state.pending.tolist() == [0, 0]


def test_late_objective_is_not_blown_up() -> None:
    state = ExpectedCounts(NAMES)
    for _ in range(50):
        state.add(torch.tensor([4, 0]))
        state.end_step()
    # 4 utterances of an objective never seen before: at most ten times their mean.
    assert state.divisor(torch.tensor([4, 4]), 1).tolist() == [4.0, 0.4]


def test_counts_that_the_sampler_knows_are_used_as_they_are() -> None:
    state = ExpectedCounts(NAMES)
    state.know({"asr/fr": 1.5}, 2)
    assert state.divisor(torch.tensor([4, 9]), 2).tolist() == [8.0, 3.0]
    state.add(torch.tensor([6, 9]))
    state.end_step()
    assert state.divisor(torch.tensor([0, 0]), 2).tolist() == [6.0, 3.0]


def test_mean_of_losses_is_unbiased_for_a_rare_objective() -> None:
    # Present in one of four steps: its losses, divided by the expected count, average to its mean.
    state = ExpectedCounts(("asr/de",))
    total = 0.0
    for step in range(400):
        counts = torch.tensor([3 if step % 4 == 0 else 0])
        if step >= 100:
            total += 2.0 * float(counts / state.divisor(counts, 1))
        state.add(counts)
        state.end_step()
    assert total / 300 == pytest.approx(2.0, rel=0.02)


def test_state_survives_a_checkpoint(tmp_path) -> None:
    state = ExpectedCounts(NAMES)
    state.add(torch.tensor([3, 1]))
    state.end_step()
    state.add(torch.tensor([1, 0]))
    torch.save(StateCarrier(state).state_dict(), tmp_path / "s.pth")
    restored = StateCarrier(ExpectedCounts(NAMES))
    restored.load_state_dict(torch.load(tmp_path / "s.pth", weights_only=True))
    assert restored.restored
    assert restored.content.mean.tolist() == [3.0, 1.0]
    assert restored.content.pending.tolist() == [1, 0]


def test_foreign_states_are_refused() -> None:
    carrier = StateCarrier(ExpectedCounts(NAMES))
    with pytest.raises(SoupStateError, match="another number of optimisers"):
        carrier.load_state_dict({"state": {}, "param_groups": []})
