# SPDX-License-Identifier: Apache-2.0
"""Coefficients of levels: constant, growing with the epochs, or found at every refresh.

    direction = sum over levels j of  c_j * v_j

`constant` and `linear` multiply down: c_1 = 1, c_j = eta_2 * ... * eta_j. `barrier` has no
schedule (`espnet_objsoup.weighting.barrier` solves for it).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from espnet_objsoup.objectives.options import Option, SoupConfError, resolve_options

_NORMALIZE = {"normalize": Option(False, boolean=True)}

PENALTIES: dict[str, dict[str, Option]] = {
    "constant": {"value": Option(1.0), **_NORMALIZE},
    "linear": {
        # None: 0.1, but 0.0 for self-supervision at the bottom.
        "init": Option(None, optional=True),
        "step": Option(0.02),
        "max": Option(1.5),
        **_NORMALIZE,
    },
    "barrier": {
        "alpha": Option(1.0),
        "beta": Option(0.5, high=1.0),
        "eta_max": Option(4.0, open_low=True),
        "reference_decay": Option(0.99, high=0.9999),
        # None: the level's own running mean.
        "target": Option(None, low=float("-inf"), optional=True),
    },
}

# The exact solver tries every subset of constraints.
MAX_BARRIER_LEVELS = 8


def check_penalty(name: str, conf: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Check a penalty without knowing its level.

    Returns:
        All options; None where the default depends on the level.

    Raises:
        SoupConfError: for an unknown penalty or option, or a value out of bounds.
    """
    if name not in PENALTIES:
        raise SoupConfError(
            f"{key}.penalty: expected one of {', '.join(PENALTIES)}, found {name!r}"
        )
    return resolve_options(conf, PENALTIES[name], f"{key}.penalty_conf", f"penalty {name}")


def resolve_penalty(
    name: str, conf: Mapping[str, Any], objectives: Sequence[str], lowest: bool, key: str
) -> dict[str, Any]:
    """Check a level's penalty and fill in its defaults.

    Args:
        name: `constant`, `linear` or `barrier`.
        conf: its options.
        objectives: of the level.
        lowest: whether no level lies below.
        key: of the level in the configuration; `.penalty` and `.penalty_conf` are appended.

    Returns:
        All options of the penalty.

    Raises:
        SoupConfError: for an unknown penalty or option, or a value out of bounds.
    """
    resolved = check_penalty(name, conf, key)
    if name == "linear":
        if resolved["init"] is None:
            starts_at_zero = lowest and tuple(objectives) == ("ssl",)
            resolved["init"] = min(0.0 if starts_at_zero else 0.1, resolved["max"])
        if resolved["init"] > resolved["max"]:
            raise SoupConfError(
                f"{key}.penalty_conf.init: expected at most max = {resolved['max']}, "
                f"found {resolved['init']}"
            )
    return resolved


def eta(name: str, conf: Mapping[str, Any], finished_epochs: int) -> float:
    """A level's own factor.

    Args:
        name: `constant` or `linear`.
        conf: resolved options.
        finished_epochs: epochs trained so far, 0 in the first one.
    """
    if name == "constant":
        return float(conf["value"])
    return min(conf["init"] + conf["step"] * finished_epochs, conf["max"])


def scheduled_coefficients(
    penalties: Sequence[tuple[str, Mapping[str, Any]]], finished_epochs: int
) -> tuple[float, ...]:
    """c of every level, top first, for levels with `constant` or `linear` penalties.

    Args:
        penalties: (name, resolved options) of every level below the top.
        finished_epochs: epochs trained so far, 0 in the first one.

    Source: arXiv 2508.09228, penalties of VM-MSP as released.
    """
    coefficients = [1.0]
    for name, conf in penalties:
        coefficients.append(coefficients[-1] * eta(name, conf, finished_epochs))
    if any(conf["normalize"] for _, conf in penalties):
        total = sum(coefficients)
        coefficients = [value / total for value in coefficients]
    return tuple(coefficients)
