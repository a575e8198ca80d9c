# SPDX-License-Identifier: Apache-2.0
"""From `trainer_conf` and the objectives of the data to the levels of a soup."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from espnet_objsoup.objectives.options import SoupConfError
from espnet_objsoup.objectives.penalties import MAX_BARRIER_LEVELS, resolve_penalty
from espnet_objsoup.objectives.recipes import fit_recipe
from espnet_objsoup.objectives.soup_conf import DEFAULT_RECIPE, KEY, LevelRow, level_rows
from espnet_objsoup.objectives.spec import match
from espnet_objsoup.objectives.static_weights import resolve_weights
from espnet_objsoup.objectives.weighting_table import WEIGHTINGS


@dataclass(frozen=True)
class LevelSpec:
    """One level of a soup, everything resolved.

    Attributes:
        objectives: names, in the order of the data's objectives.
        weighting: name in `WEIGHTINGS`.
        weighting_conf: all its options; `weights` and `preference` by objective.
        penalty: name in `PENALTIES`, None for the top level.
        penalty_conf: all its options.
    """

    objectives: tuple[str, ...]
    weighting: str = "modo"
    weighting_conf: Mapping[str, Any] = field(default_factory=dict)
    penalty: str | None = None
    penalty_conf: Mapping[str, Any] = field(default_factory=dict)


def resolve_levels(conf: Mapping[str, Any], objectives: Sequence[str]) -> tuple[LevelSpec, ...]:
    """Levels of a soup.

    Args:
        conf: the keys SOUP_KEYS of `trainer_conf`; null is the same as absent.
        objectives: names that the data has; `ssl` among them if the task has it.

    Returns:
        Levels, top first, with every option resolved.

    Raises:
        SoupConfError, ObjectiveError: naming the key that does not fit the data.
    """
    rows = level_rows(conf)
    globs = [row.globs for row in rows]
    if conf.get("levels") is None:
        globs = fit_recipe(conf.get("recipe") or DEFAULT_RECIPE, globs, objectives, KEY)
    members = _assign(rows, globs, objectives)
    levels = []
    for i, (row, names) in enumerate(zip(rows, members, strict=True)):
        penalty_conf = {}
        if row.penalty is not None:
            lowest = i == len(rows) - 1
            penalty_conf = resolve_penalty(row.penalty, row.penalty_conf, names, lowest, row.key)
        weighting_conf = _weighting_conf(row, names, objectives)
        levels.append(LevelSpec(names, row.weighting, weighting_conf, row.penalty, penalty_conf))
    _check_penalties_fit(levels)
    return tuple(levels)


def _assign(
    rows: Sequence[LevelRow], globs: Sequence[Sequence[str]], objectives: Sequence[str]
) -> list[tuple[str, ...]]:
    """Objectives of every level; each in exactly one."""
    where: dict[str, str] = {}
    members = []
    for row, patterns in zip(rows, globs, strict=True):
        key = f"{row.key}.objectives"
        found = {name for pattern in patterns for name in match(pattern, objectives, key)}
        for name in objectives:
            if name in found and name in where:
                raise SoupConfError(
                    f"{key}: expected every objective in one level, found {name} in {where[name]} "
                    "as well"
                )
        where.update(dict.fromkeys(found, key))
        members.append(tuple(name for name in objectives if name in found))
    left = [name for name in objectives if name not in where]
    if left == ["ssl"]:
        raise SoupConfError(
            f"{KEY}: no level has ssl; add it to a level, use recipe: multilevel or constrained, "
            "or set ssl: none"
        )
    if left:
        raise SoupConfError(
            f"{KEY}: no level has {', '.join(left)}; add them to a level, or choose the "
            "objectives with --objectives (run.sh: --train_args '--objectives asr/fr')"
        )
    return members


def _weighting_conf(
    row: LevelRow, members: Sequence[str], objectives: Sequence[str]
) -> dict[str, Any]:
    """Options with `weights` and `preference` by objective."""
    conf = dict(row.weighting_conf)
    needed = WEIGHTINGS[row.weighting].min_objectives + conf.get("n_byzantine", 0)
    needed = max(needed, conf.get("n_selected", 1))
    if 1 < len(members) < needed:  # a single objective has weight one anyway
        raise SoupConfError(
            f"{row.key}.weighting: {row.weighting} needs a level of at least {needed} objectives, "
            f"found {', '.join(members)}"
        )
    for option in ("weights", "preference"):
        if option not in conf:
            continue
        key = f"{row.key}.weighting_conf.{option}"
        scope = members if option in row.own_options else objectives
        resolved = resolve_weights(conf[option] or {}, scope, key)
        conf[option] = {name: resolved[name] for name in members}
        if not any(conf[option].values()):
            raise SoupConfError(f"{key}: all are zero in the level of {', '.join(members)}")
    if row.weighting == "static" and conf["normalize"]:
        total = sum(conf["weights"].values())
        conf["weights"] = {name: weight / total for name, weight in conf["weights"].items()}
    return conf


def _check_penalties_fit(levels: Sequence[LevelSpec]) -> None:
    lower = levels[1:]
    names = {level.penalty for level in lower}
    if "barrier" in names and len(names) > 1:
        raise SoupConfError(
            f"{KEY}: penalty barrier solves for all lower levels together, found "
            f"{', '.join(str(level.penalty) for level in lower)}; use it for all of them or none"
        )
    if "barrier" in names and len(lower) > MAX_BARRIER_LEVELS:
        raise SoupConfError(
            f"{KEY}: penalty barrier takes at most {MAX_BARRIER_LEVELS} lower levels, found "
            f"{len(lower)}"
        )
    if len({level.penalty_conf.get("normalize") for level in lower}) > 1:
        raise SoupConfError(
            f"{KEY}: penalty_conf.normalize concerns all levels together; give all lower levels "
            "the same"
        )
