# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_objsoup.gradients.layer_selection import LayerSelector
from espnet_objsoup.gradients.statistic import GramianStatistic
from espnet_objsoup.objectives import LayerError, LayersConf

NAMES = [f"encoder.encoders.{i}" for i in range(4)]


def statistic(cosines: list[float], pairs: float = 40.0, noise: float = 0.0) -> GramianStatistic:
    """Two objectives of norm 1 with a given cosine in each layer."""
    result = GramianStatistic.zeros(len(cosines), 2)
    for n, cosine in enumerate(cosines):
        value = cosine + noise
        result.numerators[n] = torch.tensor([[1.0, value], [value, 1.0]]) * pairs
    result.pairs[:] = pairs
    result.mean_norms2[:] = 1.2
    result.batches[:] = 1.0
    return result


def scan(selector: LayerSelector, cosines: list[float], spread: float = 0.0, epoch: int = 1):
    selector.begin_epoch(epoch, 100)
    steps = [step for step in range(100) if selector.is_scan_step(step)]
    for i in range(len(steps)):
        selector.add(statistic(cosines, noise=spread * (-1) ** i))
    return selector.end_epoch()


def make(**changes: object) -> LayerSelector:
    return LayerSelector(NAMES, LayersConf.from_dict({"scan_steps": 20, **changes}))


def test_layers_in_conflict_are_selected_worst_first() -> None:
    selector = make(top_k=2)
    assert selector.selected == (2, 3)  # the last two, until something is known
    found = scan(selector, [-0.3, 0.4, -0.1, -0.2])
    torch.testing.assert_close(found.scores, torch.tensor([-0.3, 0.4, -0.1, -0.2]).double())
    torch.testing.assert_close(found.worst, found.scores)
    assert selector.selected == found.selected == (0, 3)


def test_no_conflict_selects_nothing() -> None:
    selector = make()
    scan(selector, [0.1, 0.2, 0.3, 0.4])
    assert selector.selected == ()


def test_layers_stay_where_the_score_is_uncertain() -> None:
    # 20 steps in 10 blocks; steps alternate by +-0.2 within a block, so blocks agree: certain.
    selector = make()
    scan(selector, [0.05, 0.05, 0.05, 0.05])
    assert selector.selected == ()
    # Blocks that differ: the standard error is about 0.2 / sqrt(10).
    selector = make(scan_steps=10)
    found = scan(selector, [0.05, -0.05, 0.05, 0.3], spread=0.2)
    assert found.errors[0] == pytest.approx(0.2 * (10 / 9) ** 0.5 / 10**0.5, rel=1e-6)
    # Layer 2 was selected and is not surely above; layer 1 is not surely below; 3 is surely above.
    assert selector.selected == (2,)


@pytest.mark.parametrize("scan_steps", [2, 3, 5])
def test_scans_of_few_steps_select_too(scan_steps: int) -> None:
    selector = make(scan_steps=scan_steps)
    found = scan(selector, [-0.9, 0.9, 0.9, 0.9])
    assert found.errors.isfinite().all()
    assert selector.selected == (0,)


def test_scan_of_a_short_epoch_selects_too() -> None:
    selector = make(scan_steps=100)
    selector.begin_epoch(1, 4)
    for _ in range(4):
        selector.add(statistic([-0.9, 0.9, 0.9, 0.9]))
    selector.end_epoch()
    assert selector.selected == (0,)


def test_pairs_that_are_too_few_do_not_count() -> None:
    selector = make(scan_steps=2)
    selector.begin_epoch(1, 100)
    for _ in range(2):
        selector.add(statistic([-0.5] * 4, pairs=10.0))
    found = selector.end_epoch()
    assert not found.counted.any()
    assert found.scores.isnan().all()
    assert selector.selected == (2, 3)


@pytest.mark.parametrize(
    ("n_steps", "expected"),
    [(1000, list(range(25, 1000, 50))), (7, list(range(20))), (None, list(range(20)))],
)
def test_scan_is_spread_over_the_epoch(n_steps: int | None, expected: list[int]) -> None:
    selector = make()
    selector.begin_epoch(1, n_steps)
    assert [step for step in range(1200) if selector.is_scan_step(step)] == expected


def test_scans_come_at_intervals_and_only_where_needed() -> None:
    def epochs(always: bool = False, **changes: object) -> list[int]:
        selector = make(**changes)
        found = []
        for epoch in range(1, 7):
            selector.begin_epoch(epoch, 100, always)
            if any(map(selector.is_scan_step, range(100))):
                found.append(epoch)
        return found

    assert epochs() == [1, 2, 3, 4, 5, 6]
    assert epochs(scan_interval=3) == [1, 4]
    assert epochs(policy="last_k") == []
    assert epochs(policy="last_k", always=True) == [1, 2, 3, 4, 5, 6]
    assert epochs(policy="last_k", scan_interval=0, always=True) == []


@pytest.mark.parametrize(
    ("conf", "selected"),
    [
        ({"policy": "all"}, (0, 1, 2, 3)),
        ({"policy": "last_k", "last_k": 3}, (1, 2, 3)),
        ({"policy": "fixed", "names": [NAMES[2], NAMES[0]]}, (0, 2)),
    ],
    ids=str,
)
def test_other_policies(conf: dict, selected: tuple[int, ...]) -> None:
    selector = make(**conf)
    assert selector.selected == selected
    scan(selector, [-0.5, 0.5, 0.5, 0.5])  # no scan steps: nothing happens
    assert selector.selected == selected


def test_unknown_layer_is_refused() -> None:
    with pytest.raises(LayerError, match=r"no layer x; layers are encoder.encoders.0, "):
        make(policy="fixed", names=["x"])


def test_state() -> None:
    selector, restored = make(), make()
    scan(selector, [-0.3, 0.4, -0.1, 0.2])
    restored.load_state_dict(selector.state_dict())
    assert restored.selected == selector.selected == (0, 2)
    with pytest.raises(LayerError, match="train with the same layers"):
        LayerSelector(NAMES[:2], LayersConf()).load_state_dict(selector.state_dict())


def test_more_layers_than_there_are_is_told(caplog: pytest.LogCaptureFixture) -> None:
    selector = LayerSelector(["a", "b"], LayersConf(policy="last_k", last_k=7))
    assert selector.selected == (0, 1)
    assert "expected at most the 2 layers that there are, found 7" in caplog.text
