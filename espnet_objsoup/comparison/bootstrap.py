# SPDX-License-Identifier: Apache-2.0
"""Paired bootstrap over utterances and seeds."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from espnet_objsoup.comparison.counts import ngram_totals, score_of

N_SAMPLES = 1000
_SEED = 12345  # sacrebleu's own


@dataclass(frozen=True)
class Difference:
    """How two arms differ in a mean over objectives and seeds.

    Attributes:
        value: second minus first.
        low, high: where 95 % of the resampled differences lie.
        p: two-sided, that so large a difference comes about where there is none.
    """

    value: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    first: Mapping[str, np.ndarray],
    second: Mapping[str, np.ndarray],
    n_samples: int = N_SAMPLES,
    resample_seeds: bool = True,
) -> Difference:
    """Compare two arms on the same utterances and seeds.

    A sample draws utterances with replacement, for every objective anew, and seeds with
    replacement, the same ones for both arms. p is the share of samples whose difference is at
    least as far from the samples' mean as the real difference is from zero, on either side.
    (sacrebleu's own paired bootstrap looks at one side only, takes one corpus and knows no seeds;
    what it calls approximate randomisation has two sides and agrees with this.)

    Args:
        first, second: objective -> (S, U, D) counts of its utterances, S seeds; the objectives are
            of one task, with the same S and U on both sides.
        n_samples: resampled corpora.
        resample_seeds: False takes the seeds as given, so that it is about these models only.

    Returns:
        The difference of the means over objectives.

    Raises:
        ValueError: if the two sides do not belong together.

    Source:
        Koehn, EMNLP 2004; Bisani, Ney, ICASSP 2004 (error rates).
    """
    if not first or {k: v.shape for k, v in first.items()} != {
        k: v.shape for k, v in second.items()
    }:
        raise ValueError("paired bootstrap: expected the same objectives, seeds and utterances")
    n_seeds = next(iter(first.values())).shape[0]
    times = np.ones((n_samples, n_seeds))
    if resample_seeds:
        random = np.random.default_rng(_SEED)
        times = random.multinomial(n_seeds, [1 / n_seeds] * n_seeds, n_samples)
    both = [_samples(side, times) for side in (first, second)]
    value = mean_score(second) - mean_score(first)
    drawn = both[1] - both[0]
    as_far = np.abs(drawn - drawn.mean()) >= abs(value)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Difference(value, float(low), float(high), float((as_far.sum() + 1) / (n_samples + 1)))


def mean_score(counts: Mapping[str, np.ndarray]) -> float:
    """Mean over objectives and seeds.

    Args:
        counts: objective -> (S, U, D).
    """
    return float(np.mean([scores_by_seed(name, of).mean() for name, of in counts.items()]))


def scores_by_seed(objective: str, counts: np.ndarray) -> np.ndarray:
    """(S,) corpus scores of an objective from (S, U, D) counts."""
    task = objective.split("/")[0]
    return score_of(task, counts.sum(1), ngram_totals(counts).sum(1))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values for several comparisons at once.

    Args:
        p_values: comparison -> its own p.

    Returns:
        Comparison -> p after Holm's correction.

    Source:
        Holm, Scandinavian Journal of Statistics 1979.
    """
    corrected: dict[str, float] = {}
    highest = 0.0
    for i, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min((len(p_values) - i) * p, 1.0))
        corrected[name] = highest
    return corrected


def _samples(counts: Mapping[str, np.ndarray], times: np.ndarray) -> np.ndarray:
    """(N,) means over objectives and seeds of resampled corpora; seeds `times` (N, S) times."""
    means = []
    for name, of_objective in sorted(counts.items()):
        n_utterances = of_objective.shape[1]
        # Its own stream, so that both arms see the same utterances.
        random = np.random.default_rng([_SEED, zlib.crc32(name.encode())])
        drawn = random.multinomial(n_utterances, [1 / n_utterances] * n_utterances, len(times))
        sums = np.einsum("nu,sud->nsd", drawn, of_objective)
        totals = np.einsum("nu,sud->nsd", drawn, ngram_totals(of_objective))
        scores = score_of(name.split("/")[0], sums, totals)
        means.append((scores * times).sum(1) / times.sum(1))
    return np.mean(means, axis=0)
