# SPDX-License-Identifier: Apache-2.0
"""The soup's keys of `trainer_conf`, checked as far as that is possible without the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espnet_objsoup.objectives.options import SoupConfError, resolve_options
from espnet_objsoup.objectives.penalties import PENALTIES, check_penalty
from espnet_objsoup.objectives.recipes import RECIPES, check_order
from espnet_objsoup.objectives.weighting_table import weighting_info

KEY = "trainer_conf"
SOUP_KEYS = (
    "recipe", "order", "levels", "weighting", "weighting_conf", "penalty", "penalty_conf"
)  # fmt: skip
LEVEL_KEYS = ("objectives", "weighting", "weighting_conf", "penalty", "penalty_conf")
DEFAULT_RECIPE = "static"


@dataclass(frozen=True)
class LevelRow:
    """A level as configured, with the general settings filled in.

    Attributes:
        key: where it stands, for messages.
        globs: over objectives.
        weighting: name.
        weighting_conf: checked options, defaults filled in.
        own_options: options that the level itself gives; the others concern all objectives.
        penalty: name, None for the top level.
        penalty_conf: options as given.
    """

    key: str
    globs: tuple[str, ...]
    weighting: str
    weighting_conf: Mapping[str, Any]
    own_options: frozenset[str]
    penalty: str | None
    penalty_conf: Mapping[str, Any]


def check_soup_conf(conf: Mapping[str, Any]) -> None:
    """Check what can be checked before the data is known.

    Args:
        conf: the keys SOUP_KEYS of `trainer_conf`; null is the same as absent.

    Raises:
        SoupConfError: naming the key, what is expected and what was found.
    """
    level_rows(conf)


def level_rows(conf: Mapping[str, Any]) -> tuple[LevelRow, ...]:
    """Levels as configured, top first.

    Args:
        conf: the keys SOUP_KEYS of `trainer_conf`; null is the same as absent.

    Raises:
        SoupConfError: naming the key, what is expected and what was found.
    """
    _check_block(conf, SOUP_KEYS, KEY)
    given = {name: value for name, value in conf.items() if value is not None}
    if "levels" in given:
        rows = _written_levels(given)
        # Not the barrier: from scratch, where every loss falls by itself, it hardly ever acts, and
        # lower levels then get no direction of their own (docs/soups.md).
        defaults = {"weighting": "modo", "penalty": "linear"}
    else:
        rows = _levels_of_recipe(given)
        recipe = RECIPES[given.get("recipe", DEFAULT_RECIPE)]
        defaults = {"weighting": recipe.weighting, "penalty": "linear"}
    if len(rows) == 1:
        _refuse_penalty(given)
    general = {**defaults, **given}
    return tuple(_row(key, row, general, top=i == 0) for i, (key, row) in enumerate(rows))


def _levels_of_recipe(given: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    recipe = given.get("recipe", DEFAULT_RECIPE)
    if recipe not in RECIPES:
        raise SoupConfError(f"{KEY}.recipe: expected one of {', '.join(RECIPES)}, found {recipe!r}")
    order = given.get("order")
    check_order(recipe, order, KEY)
    if recipe == "static" and given.get("weighting", "static") != "static":
        raise SoupConfError(
            f"{KEY}.weighting: recipe static has fixed weights, so expected static, "
            f"found {given['weighting']!r}"
        )
    levels = RECIPES[recipe].orders[order or RECIPES[recipe].default_order]
    return [(KEY, {"objectives": globs}) for globs in levels]


def _written_levels(given: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    for name in ("recipe", "order"):
        if name in given:
            raise SoupConfError(
                f"{KEY}.levels: expected either levels or {name}, found both; remove one"
            )
    levels = given["levels"]
    if not isinstance(levels, Sequence) or isinstance(levels, str) or not levels:
        raise SoupConfError(
            f"{KEY}.levels: expected a list of at least one level, found {levels!r}"
        )
    rows = []
    for i, level in enumerate(levels, start=1):
        key = f"{KEY}.levels[{i}]"
        _check_block(level, LEVEL_KEYS, key)
        row = {name: value for name, value in level.items() if value is not None}
        _check_globs(row.get("objectives"), key)
        if i == 1 and (row.get("penalty") or row.get("penalty_conf")):
            raise SoupConfError(
                f"{key}.penalty: expected none, as the first level is the top, found "
                f"{row.get('penalty') or row['penalty_conf']!r}; levels go top first"
            )
        rows.append((key, row))
    return rows


def _check_block(block: Any, known: Sequence[str], key: str) -> None:
    if not isinstance(block, Mapping):
        raise SoupConfError(f"{key}: expected a mapping, found {block!r}")
    unknown = sorted(str(name) for name in block if name not in known)
    if unknown:
        raise SoupConfError(
            f"{key}: unknown key {', '.join(unknown)}; known keys: {', '.join(known)}"
        )
    for name, value in block.items():
        if value is None or name in ("levels", "objectives"):
            continue
        kind, word = (Mapping, "a mapping") if name.endswith("_conf") else (str, "a name")
        if not isinstance(value, kind):
            raise SoupConfError(f"{key}.{name}: expected {word}, found {value!r}")


def _check_globs(globs: Any, key: str) -> None:
    valid = isinstance(globs, Sequence) and not isinstance(globs, str) and globs
    if not valid or not all(isinstance(glob, str) for glob in globs):
        raise SoupConfError(
            f"{key}.objectives: expected a list of at least one objective or glob, found {globs!r}"
        )


def _refuse_penalty(given: Mapping[str, Any]) -> None:
    for name in ("penalty", "penalty_conf"):
        if given.get(name):
            raise SoupConfError(
                f"{KEY}.{name}: a soup of one level has no penalty, found {given[name]!r}; remove "
                "the key, or use a recipe with more levels"
            )


def _row(key: str, row: Mapping[str, Any], general: Mapping[str, Any], top: bool) -> LevelRow:
    weighting = row.get("weighting", general["weighting"])
    info = weighting_info(weighting, f"{key}.weighting")
    conf = resolve_options(
        _merged(row, general, "weighting"),
        info.options,
        f"{key}.weighting_conf",
        f"weighting {weighting}",
    )
    penalty = None if top else row.get("penalty", general["penalty"])
    penalty_conf = {} if top else _merged(row, general, "penalty")
    if penalty is not None:
        check_penalty(penalty, penalty_conf, key)
    elif general.get("penalty", "linear") not in PENALTIES:
        check_penalty(general["penalty"], {}, key)
    return LevelRow(
        key,
        tuple(row["objectives"]),
        weighting,
        conf,
        frozenset(row.get("weighting_conf") or {}),
        penalty,
        penalty_conf,
    )


def _merged(row: Mapping[str, Any], general: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A level's options on top of the general ones, unless these belong to another method."""
    shared = general.get(f"{name}_conf") or {}
    if row.get(name, general[name]) != general[name]:
        shared = {}
    return {**shared, **(row.get(f"{name}_conf") or {})}
