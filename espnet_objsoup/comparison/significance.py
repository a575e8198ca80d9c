# SPDX-License-Identifier: Apache-2.0
"""Arms of a variant against the reference: what luck of training and of the test set explains.

Seeds are few, and resampling three of them gives tails that are far too thin (of 11 equal arms, one
or more would get a star in 27 to 85 % of tables). So p comes from a test that pools the deviations
between seeds over all arms, and utterances are resampled with the trained models as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import dunnett

from espnet_objsoup.comparison.bootstrap import paired_bootstrap
from espnet_objsoup.comparison.result import Result

# With fewer, an arm says next to nothing of its own deviation.
MIN_SEEDS = 3
LEVEL = 0.05
_RANDOM = 12345  # of the numerical integral


@dataclass(frozen=True)
class Difference:
    """How an arm differs from the reference, in the mean of a task's scores over objectives.

    Attributes:
        value: arm minus reference, mean over seeds.
        seeds: that both have been trained with.
        utterances: 95 % interval over test utterances, of these models.
        low, high: 95 % interval over seeds, for all arms together; NaN with too few seeds.
        p: that one of all arms together differs so much where none does; NaN with too few seeds.
    """

    value: float
    seeds: int
    utterances: tuple[float, float]
    low: float = float("nan")
    high: float = float("nan")
    p: float = float("nan")

    @property
    def is_significant(self) -> bool:
        """Neither other seeds nor other utterances are likely to have made it."""
        return self.p < LEVEL and (self.utterances[0] > 0) == (self.utterances[1] > 0)


def differences(
    reference: Sequence[Result], arms: Mapping[str, Sequence[Result]], task: str
) -> dict[str, Difference]:
    """Every arm minus the reference, in the mean of a task's scores.

    Args:
        reference: results of the reference, by seed.
        arms: name -> results; one family of comparisons.
        task: `asr` or `st`.

    Returns:
        Arm -> difference; without arms that share no seed with the reference.

    Source:
        Dunnett, JASA 1955 (several arms against one; deviations pooled).
    """
    found: dict[str, Difference] = {}
    own = {name: _scores(results, task) for name, results in arms.items()}
    control = _scores(reference, task)
    for name, results in arms.items():
        seeds = sorted(control.keys() & own[name].keys())
        if seeds:
            drawn = paired_bootstrap(*(_counts(side, seeds, task) for side in (reference, results)))
            found[name] = Difference(drawn.value, len(seeds), (drawn.low, drawn.high))
    samples = {name: list(own[name].values()) for name in found if len(own[name]) >= MIN_SEEDS}
    return found | _tested(found, samples, list(control.values()))


def _tested(
    found: Mapping[str, Difference],
    samples: Mapping[str, Sequence[float]],
    control: Sequence[float],
) -> dict[str, Difference]:
    """Differences of the arms that have enough seeds, with what the seeds say of them."""
    if not samples or len(control) < MIN_SEEDS:
        return {}
    if not any(np.ptp(sample) > 0 for sample in [*samples.values(), control]):
        return {}  # without any deviation there is nothing to test against
    test = dunnett(*samples.values(), control=control, rng=np.random.default_rng(_RANDOM))
    interval = test.confidence_interval()
    return {
        name: replace(
            found[name],
            value=float(np.mean(sample) - np.mean(control)),
            low=float(interval.low[i]),
            high=float(interval.high[i]),
            p=float(test.pvalue[i]),
        )
        for i, (name, sample) in enumerate(samples.items())
    }


def _scores(results: Sequence[Result], task: str) -> dict[int, float]:
    """Seed -> mean over objectives, of results that have any of the task."""
    return {
        result.seed: result.mean(task)
        for result in results
        if any(name.startswith(f"{task}/") for name in result.scores)
    }


def _counts(results: Sequence[Result], seeds: Sequence[int], task: str) -> dict[str, np.ndarray]:
    """Objective -> (S, U, D), seeds in this order."""
    by_seed = {result.seed: result for result in results}
    names = [name for name in by_seed[seeds[0]].scores if name.startswith(f"{task}/")]
    return {name: np.stack([by_seed[seed].counts(name) for seed in seeds]) for name in names}
