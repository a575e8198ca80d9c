# SPDX-License-Identifier: Apache-2.0
"""Arms of a variant against the reference, with what they have in common."""

from collections.abc import Mapping, Sequence

import numpy as np

from espnet_objsoup.comparison.bootstrap import Difference, holm, paired_bootstrap
from espnet_objsoup.comparison.result import Result


def differences(
    reference: Sequence[Result], arms: Mapping[str, Sequence[Result]], task: str
) -> dict[str, Difference]:
    """Every arm minus the reference, in the mean of a task's scores.

    Args:
        reference: results of the reference, by seed.
        arms: name -> results.
        task: `asr` or `st`.

    Returns:
        Arm -> difference; without arms that share no seed with the reference.
    """
    found = {}
    for name, results in arms.items():
        seeds = sorted({r.seed for r in reference} & {r.seed for r in results})
        sides = [_counts(side, seeds, task) for side in (reference, results)]
        if seeds and sides[0]:
            found[name] = paired_bootstrap(*sides)
    return found


def corrected(found: Mapping[str, Difference]) -> dict[str, float]:
    """P-values after Holm's correction, for all arms of a table together."""
    return holm({name: difference.p for name, difference in found.items()})


def _counts(results: Sequence[Result], seeds: Sequence[int], task: str) -> dict[str, np.ndarray]:
    """Objective -> (S, U, D), seeds in this order."""
    by_seed = {result.seed: result for result in results}
    if not seeds:
        return {}
    names = [name for name in by_seed[seeds[0]].scores if name.startswith(f"{task}/")]
    return {name: np.stack([by_seed[seed].counts(name) for seed in seeds]) for name in names}
