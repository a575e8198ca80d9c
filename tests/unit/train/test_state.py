# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_objsoup.train.state import MIN_EXPECTED_COUNT, SoupState, SoupStateError, StateCarrier

NAMES = ("asr/de", "asr/fr")


def test_first_step_uses_its_own_counts() -> None:
    state = SoupState(NAMES)
    assert state.divisor(torch.tensor([4, 0]), 2).tolist() == [8.0, MIN_EXPECTED_COUNT]


def test_expected_counts_are_the_mean_over_steps_and_micro_batches() -> None:
    state = SoupState(NAMES)
    for step in ([4, 0], [2, 2]), ([8, 1], [0, 1]):
        for counts in step:
            state.add(torch.tensor(counts))
        state.end_step()
    assert state.expected_counts.tolist() == [7.0, 2.0]
    assert state.divisor(torch.tensor([1, 1]), 2).tolist() == [7.0, 2.0]
    assert state.pending_counts.tolist() == [0, 0]


def test_counts_that_the_sampler_knows_are_used_as_they_are() -> None:
    state = SoupState(NAMES)
    state.know({"asr/fr": 1.5}, 2)
    assert state.divisor(torch.tensor([4, 9]), 2).tolist() == [8.0, 3.0]
    state.add(torch.tensor([6, 9]))
    state.end_step()
    assert state.divisor(torch.tensor([0, 0]), 2).tolist() == [6.0, 3.0]


def test_mean_of_losses_is_unbiased_for_a_rare_objective() -> None:
    # Present in one of four steps: its losses, divided by the expected count, average to its mean.
    state = SoupState(("asr/de",))
    total = 0.0
    for step in range(400):
        counts = torch.tensor([3 if step % 4 == 0 else 0])
        if step >= 100:
            total += 2.0 * float(counts / state.divisor(counts, 1))
        state.add(counts)
        state.end_step()
    assert total / 300 == pytest.approx(2.0, rel=0.02)


def test_state_survives_a_checkpoint(tmp_path) -> None:
    state = SoupState(NAMES)
    state.add(torch.tensor([3, 1]))
    state.end_step()
    state.add(torch.tensor([1, 0]))
    torch.save(StateCarrier(state).state_dict(), tmp_path / "s.pth")
    restored = StateCarrier(SoupState(NAMES))
    restored.load_state_dict(torch.load(tmp_path / "s.pth", weights_only=True))
    assert restored.restored
    assert restored.soup_state.expected_counts.tolist() == [3.0, 1.0]
    assert restored.soup_state.pending_counts.tolist() == [1, 0]


def test_foreign_states_are_refused() -> None:
    carrier = StateCarrier(SoupState(NAMES))
    with pytest.raises(SoupStateError, match="another number of optimisers"):
        carrier.load_state_dict({"state": {}, "param_groups": []})
    with pytest.raises(SoupStateError, match="format"):
        carrier.load_state_dict({"soup": {"version": 99}})
