# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scipy import stats

from espnet_objsoup.comparison.counts import pack
from espnet_objsoup.comparison.result import Result
from espnet_objsoup.comparison.significance import differences


def result(arm: str, seed: int, rate: float, random: np.random.Generator, n: int = 200) -> Result:
    """So many utterances of 8 words, each wrong at the rate."""
    errors = np.stack([random.binomial(8, rate, n), np.full(n, 8)], -1)
    wer = 100 * errors[:, 0].sum() / errors[:, 1].sum()
    return Result(
        variant="v", arm=arm, seed=seed, config="c", data="d", commit="c", machine="m",
        scores={"asr/de": {"wer": wer, "sentences": n}},
        utterances={"asr/de": {"test": f"test{n}", "counts": pack(errors)}},
        epochs=1, updates=1, cpu_seconds=1.0, decode_cpu_seconds=1.0, wall_seconds=1.0,
        memory_mb=1.0,
    )  # fmt: skip


def results(
    arm: str, rate: float, deviation: float, random: np.random.Generator, n_seeds: int = 3
) -> list[Result]:
    return [
        result(arm, seed, float(np.clip(random.normal(rate, deviation), 0.01, 0.99)), random)
        for seed in range(1, n_seeds + 1)
    ]


def test_stars_are_rare_where_nothing_differs() -> None:
    """5 arms like the reference, whose seeds differ more than its utterances: 40 tables."""
    random = np.random.default_rng(1)
    starred, p_values = 0, []
    for _ in range(40):
        arms = {f"a{i}": results(f"a{i}", 0.3, 0.03, random) for i in range(5)}
        found = differences(results("static", 0.3, 0.03, random), arms, "asr")
        starred += any(difference.is_significant for difference in found.values())
        p_values += [difference.p for difference in found.values()]
    # 2 tables expected; 7 or fewer in 99.9 % of such experiments.
    assert starred <= 7
    assert np.mean(np.array(p_values) < 0.05) < 0.05


def test_a_difference_is_found() -> None:
    random = np.random.default_rng(2)
    arms = {"same": results("same", 0.3, 0.01, random), "soup": results("soup", 0.2, 0.01, random)}
    found = differences(results("static", 0.3, 0.01, random), arms, "asr")
    assert found["soup"].is_significant
    assert found["soup"].low < found["soup"].value < found["soup"].high < 0
    assert not found["same"].is_significant


def test_one_arm_is_the_t_test_over_seeds() -> None:
    random = np.random.default_rng(3)
    static, soup = results("static", 0.3, 0.03, random), results("soup", 0.26, 0.03, random)
    (found,) = differences(static, {"soup": soup}, "asr").values()
    expected = stats.ttest_ind([r.mean("asr") for r in soup], [r.mean("asr") for r in static])
    assert found.p == pytest.approx(expected.pvalue, abs=1e-3)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(interval), abs=0.05)


def test_seeds_that_disagree_make_no_star() -> None:
    """The same test utterances are won by far, but by one seed of three."""
    random = np.random.default_rng(4)
    static = [result("static", seed, 0.30, random) for seed in (1, 2, 3)]
    soup = [result("soup", seed, rate, random) for seed, rate in ((1, 0.1), (2, 0.3), (3, 0.31))]
    (found,) = differences(static, {"soup": soup}, "asr").values()
    assert found.utterances[1] < 0
    assert found.p > 0.1
    assert not found.is_significant


def test_few_seeds_have_no_p() -> None:
    random = np.random.default_rng(5)
    static = results("static", 0.3, 0.01, random)
    found = differences(static, {"soup": results("soup", 0.1, 0.01, random, 2)}, "asr")["soup"]
    assert np.isnan(found.p)
    assert found.seeds == 2
    assert not found.is_significant
    assert differences(static, {"soup": results("soup", 0.1, 0.01, random)}, "st") == {}
