# SPDX-License-Identifier: Apache-2.0
"""Paired bootstrap over utterances."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from espnet_objsoup.comparison.counts import ngram_totals, score_of

N_SAMPLES = 2000
_SEED = 12345  # sacrebleu's own


@dataclass(frozen=True)
class Resampled:
    """How two arms differ in a mean over objectives and seeds.

    Attributes:
        value: second minus first.
        low, high: where 95 % of the resampled differences lie.
        p: two-sided, that other utterances would make so large a difference where there is none.
    """

    value: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    first: Mapping[str, np.ndarray],
    second: Mapping[str, np.ndarray],
    n_samples: int = N_SAMPLES,
) -> Resampled:
    """Compare two arms on the same utterances and seeds.

    A sample draws utterances with replacement, for every objective anew, the same ones for both
    arms and all seeds: it is about these models. p is the share of samples whose difference is at
    least as far from the samples' mean as the real difference is from zero, on either side.
    (sacrebleu's own paired bootstrap looks at one side only and takes one system and corpus;
    what it calls approximate randomisation has two sides and agrees with this.)

    Args:
        first, second: objective -> (S, U, D) counts of its utterances, S seeds; the objectives are
            of one task, with the same S and U on both sides.
        n_samples: resampled corpora.

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
    both = [_samples(side, n_samples) for side in (first, second)]
    value = mean_score(second) - mean_score(first)
    drawn = both[1] - both[0]
    as_far = np.abs(drawn - drawn.mean()) >= abs(value)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Resampled(value, float(low), float(high), float((as_far.sum() + 1) / (n_samples + 1)))


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


def _samples(counts: Mapping[str, np.ndarray], n_samples: int) -> np.ndarray:
    """(N,) means over objectives and seeds of resampled corpora."""
    means = []
    for name, of_objective in sorted(counts.items()):
        n_utterances = of_objective.shape[1]
        # Its own stream, so that both arms see the same utterances.
        random = np.random.default_rng([_SEED, zlib.crc32(name.encode())])
        drawn = random.multinomial(n_utterances, [1 / n_utterances] * n_utterances, n_samples)
        sums = np.einsum("nu,sud->nsd", drawn, of_objective)
        totals = np.einsum("nu,sud->nsd", drawn, ngram_totals(of_objective))
        means.append(score_of(name.split("/")[0], sums, totals).mean(1))
    return np.mean(means, axis=0)
