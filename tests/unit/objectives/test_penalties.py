# SPDX-License-Identifier: Apache-2.0
"""Coefficients over epochs; every number follows from c_j = eta_2 * ... * eta_j and
eta = min(init + step * finished epochs, max)."""

import pytest

from espnet_objsoup.objectives import level_coefficients, resolve_levels
from espnet_objsoup.objectives.penalties import scheduled_coefficients

NAMES = ("asr/fr", "st/fr-en", "ssl")


def coefficients(conf: dict, finished: int, names: tuple[str, ...] = NAMES) -> tuple[float, ...]:
    levels = resolve_levels(conf, names)
    penalties = [(level.penalty, level.penalty_conf) for level in levels[1:]]
    return scheduled_coefficients(penalties, finished)


# eta_2 = .1 + .02 e (1.5 from e = 70), eta_3 = .02 e (1.5 from e = 75).
MULTILEVEL = [
    (0, (1, 0.1, 0)),
    (10, (1, 0.3, 0.3 * 0.2)),
    (45, (1, 1.0, 0.9)),
    (70, (1, 1.5, 1.5 * 1.4)),
    (75, (1, 1.5, 2.25)),
    (200, (1, 1.5, 2.25)),
]


@pytest.mark.parametrize("order", ["uas", "usa"])
@pytest.mark.parametrize(("finished", "expected"), MULTILEVEL)
def test_multilevel(order: str, finished: int, expected: tuple) -> None:
    conf = {"recipe": "multilevel", "order": order}
    assert coefficients(conf, finished) == pytest.approx(expected)


# eta_2 = .02 e: self-supervision at the bottom starts at zero.
@pytest.mark.parametrize(
    ("finished", "expected"), [(0, (1, 0)), (45, (1, 0.9)), (75, (1, 1.5)), (200, (1, 1.5))]
)
def test_constrained(finished: int, expected: tuple) -> None:
    assert coefficients({"recipe": "constrained"}, finished) == pytest.approx(expected)


@pytest.mark.parametrize("order", ["as", "sa"])
@pytest.mark.parametrize(
    ("finished", "expected"), [(0, (1, 0.1)), (45, (1, 1.0)), (70, (1, 1.5)), (200, (1, 1.5))]
)
def test_bilevel(order: str, finished: int, expected: tuple) -> None:
    conf = {"recipe": "bilevel", "order": order}
    assert coefficients(conf, finished, NAMES[:2]) == pytest.approx(expected)


def test_short_runs_take_larger_steps() -> None:
    # Ten epochs in place of 75: eta_2 and eta_3 both reach their caps.
    conf = {"recipe": "multilevel", "penalty_conf": {"step": 0.15}}
    assert coefficients(conf, 10) == pytest.approx((1, 1.5, 2.25))


def test_normalised_coefficients_sum_to_one() -> None:
    conf = {"recipe": "multilevel", "penalty_conf": {"normalize": True}}
    assert coefficients(conf, 45) == pytest.approx((1 / 2.9, 1 / 2.9, 0.9 / 2.9))


def test_constant_multiplies_down() -> None:
    conf = {"recipe": "multilevel", "penalty": "constant", "penalty_conf": {"value": 0.5}}
    assert coefficients(conf, 0) == coefficients(conf, 99) == (1, 0.5, 0.25)


def test_epochs_count_from_one_in_the_table() -> None:
    levels = resolve_levels({"recipe": "multilevel"}, NAMES)
    assert level_coefficients(levels, 1) == pytest.approx((1, 0.1, 0))
    assert level_coefficients(levels, 46) == pytest.approx((1, 1.0, 0.9))
    barrier = resolve_levels({"recipe": "multilevel", "penalty": "barrier"}, NAMES)
    assert level_coefficients(barrier, 1) == (1.0, None, None)
