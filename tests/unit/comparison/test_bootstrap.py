# SPDX-License-Identifier: Apache-2.0
import random

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest
from scipy import stats

from espnet_objsoup.comparison.bootstrap import mean_score, paired_bootstrap
from espnet_objsoup.comparison.counts import (
    bleu_counts,
    error_counts,
    ngram_totals,
    pack,
    score_of,
    unpack,
)
from espnet_objsoup.evaluation.error_rate import word_errors

WORDS = "the old house stands near a small red river where nobody ever walks at night".split()


def corpus(n: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(4, 9))) for _ in range(n)]


def spoilt(references: list[str], rate: float, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [
        " ".join(draw.choice(WORDS) if draw.random() < rate else w for w in text.split())
        for text in references
    ]


def errors(rates: list[float], n: int = 200, seed: int = 0) -> np.ndarray:
    """(S, U, 2) of 8 words an utterance, a seed per rate."""
    random_ = np.random.default_rng(seed)
    drawn = np.stack([random_.binomial(8, rate, n) for rate in rates])
    return np.stack([drawn, np.full_like(drawn, 8)], -1)


def test_counts_add_up_to_the_scores() -> None:
    references = corpus(50)
    hypotheses = [*spoilt(references[:-1], 0.3, 1), ""]
    wer = error_counts(references, hypotheses, "en", "wer")
    assert 100 * wer[:, 0].sum() / wer[:, 1].sum() == word_errors(references, hypotheses).rate
    bleu = bleu_counts(references, hypotheses, "en")
    summed = score_of("st", bleu.sum(0)[None], ngram_totals(bleu).sum(0)[None])
    assert summed[0] == pytest.approx(BLEU().corpus_score(hypotheses, [references]).score)


def test_packed_counts_are_the_same() -> None:
    counts = bleu_counts(["a b c", "d"], ["a b", ""], "en")
    assert np.array_equal(unpack(pack(counts), 6, "x"), counts)


@pytest.mark.parametrize("text", ["", "1 2 3", "1 x", "1 -2", None, "1 2;3"])
def test_what_is_no_counts_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"f\.json: expected 2 whole numbers"):
        unpack(text, 2, "f.json")


@pytest.mark.parametrize(("rate", "low", "high"), [(0.31, 0.2, 0.9), (0.26, 0.001, 0.1)])
def test_bleu_as_sacrebleu_has_it(rate: float, low: float, high: float) -> None:
    """One corpus, one seed: sacrebleu's other test with two sides, approximate randomisation."""
    references = corpus(120)
    first, second = spoilt(references, 0.35, 1), spoilt(references, rate, 2)
    test = PairedTest(
        [("first", first), ("second", second)],
        {"BLEU": BLEU(references=[references])},
        references=None,
        test_type="ar",
        n_samples=1000,
    )
    result = test()[1]["BLEU"]
    ours = paired_bootstrap(
        *({"st/fr-en": bleu_counts(references, side, "en")[None]} for side in (first, second))
    )
    assert ours.value == pytest.approx(result[1].score - result[0].score)
    assert low < result[1].p_value < high
    assert ours.p == pytest.approx(result[1].p_value, abs=0.07, rel=0.3)


def test_error_rate_against_a_known_distribution() -> None:
    """Equal lengths: the difference is a mean of independent numbers, and the t-test is right."""
    first, second = errors([0.2]), errors([0.23], seed=1)
    ours = paired_bootstrap({"asr/en": first}, {"asr/en": second})
    expected = stats.ttest_rel(first[0, :, 0], second[0, :, 0]).pvalue
    assert 0.01 < expected < 0.5
    assert ours.p == pytest.approx(expected, abs=0.03)
    deviation = (second[0, :, 0] - first[0, :, 0]).std(ddof=1) / np.sqrt(200) * 100 / 8
    assert ours.high - ours.low == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_p_is_rarely_small_where_there_is_no_difference() -> None:
    p_values = [
        paired_bootstrap(
            {"asr/en": errors([0.2], 100, 2 * i)}, {"asr/en": errors([0.2], 100, 2 * i + 1)}, 300
        ).p
        for i in range(100)
    ]
    # 5 expected; 12 or fewer in 99.9 % of such experiments.
    assert sum(p < 0.05 for p in p_values) <= 12
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.1)


def test_an_arm_does_not_differ_from_itself() -> None:
    side = {"asr/en": errors([0.2, 0.3]), "asr/fr": errors([0.4, 0.3], seed=3)}
    same = paired_bootstrap(side, side)
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    assert mean_score(side) == pytest.approx(
        np.mean([100 * of[..., 0].sum() / of[..., 1].sum() for of in side.values()])
    )


def test_sides_have_to_belong_together() -> None:
    with pytest.raises(ValueError, match="same objectives, seeds and utterances"):
        paired_bootstrap({"asr/en": errors([0.2])}, {"asr/fr": errors([0.2])})
