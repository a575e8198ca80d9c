# SPDX-License-Identifier: Apache-2.0
"""Fixed weights by objective or glob."""

from collections.abc import Mapping, Sequence

from espnet_objsoup.objectives.numbers import is_number
from espnet_objsoup.objectives.spec import ObjectiveError, match


def resolve_weights(
    weights: Mapping[str, float], objectives: Sequence[str], key: str = "weights"
) -> dict[str, float]:
    """Weight of every objective.

    Args:
        weights: name or glob -> weight, >= 0. An exact name wins over a glob; two globs that both
            match an objective contradict each other.
        objectives: names that the data has.
        key: where the weights stand in the configuration, for messages.

    Returns:
        objective -> weight, in the order of `objectives`; 1 for all if `weights` is empty.

    Raises:
        ObjectiveError: for a glob without a match, an objective without a weight or with two, a
            weight that is not a finite number >= 0, or if all weights are zero.
    """
    if not weights:
        return dict.fromkeys(objectives, 1.0)
    matched: dict[str, list[str]] = {name: [] for name in objectives}
    for pattern, value in weights.items():
        if not isinstance(pattern, str):
            raise ObjectiveError(f"{key}: expected objectives or globs, found {pattern!r}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ObjectiveError(f"{key}.{pattern}: expected a number, found {value!r}")
        if not (is_number(value) and value >= 0):
            raise ObjectiveError(f"{key}.{pattern}: expected a number >= 0, found {value}")
        for name in match(pattern, objectives, key):
            matched[name].append(pattern)
    resolved = {
        name: float(weights[_choose(name, patterns, key)]) for name, patterns in matched.items()
    }
    if not any(resolved.values()):
        raise ObjectiveError(f"{key}: all weights are zero; nothing would be trained")
    return resolved


def _choose(name: str, patterns: list[str], key: str) -> str:
    if name in patterns:
        return name
    if not patterns:
        raise ObjectiveError(
            f"{key}: no weight for objective {name}; add it, or a glob such as '*'"
        )
    if len(patterns) > 1:
        raise ObjectiveError(f"{key}: objective {name} is matched by {' and by '.join(patterns)}")
    return patterns[0]
