# SPDX-License-Identifier: Apache-2.0
"""Recipes: named soups and their levels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from espnet_objsoup.objectives.options import SoupConfError
from espnet_objsoup.objectives.spec import task_of

Level = tuple[str, ...]
_ASR, _ST, _SSL = ("asr/*",), ("st/*",), ("ssl",)


@dataclass(frozen=True)
class Recipe:
    """A named soup.

    Attributes:
        orders: order -> globs of every level, top first; one unnamed order if there is no choice.
        default_order: taken where none is given.
        weighting: taken where none is given.
    """

    orders: Mapping[str, tuple[Level, ...]]
    default_order: str = ""
    weighting: str = "modo"


RECIPES: dict[str, Recipe] = {
    "static": Recipe({"": (("*",),)}, weighting="static"),
    "flat": Recipe({"": (("*",),)}),
    "constrained": Recipe({"": ((*_ASR, *_ST), _SSL)}),
    "bilevel": Recipe({"as": (_ASR, _ST), "sa": (_ST, _ASR)}, default_order="as"),
    "multilevel": Recipe({"uas": (_ASR, _ST, _SSL), "usa": (_ST, _ASR, _SSL)}, default_order="uas"),
}


def fit_recipe(
    name: str, levels: Sequence[Level], objectives: Sequence[str], key: str
) -> list[Level]:
    """Leave out globs of tasks that the data lacks.

    Args:
        name: of the recipe.
        levels: globs of its levels.
        objectives: names that the data has.
        key: of the block in the configuration.

    Returns:
        For every level, top first, the globs that match an objective.

    Raises:
        SoupConfError: if a level is left empty.
    """
    tasks = {task_of(objective) for objective in objectives} | {"*"}
    fitted = []
    for level in levels:
        present = tuple(glob for glob in level if glob.split("/")[0] in tasks)
        if not present:
            missing = " or ".join(glob.split("/")[0] for glob in level)
            _refuse_missing_task(name, missing, objectives, key)
        fitted.append(present)
    return fitted


def check_order(name: str, order: str | None, key: str) -> None:
    """Refuse an order that the recipe does not have.

    Raises:
        SoupConfError: naming the orders there are.
    """
    orders = RECIPES[name].orders
    if order is None or (order in orders and order):
        return
    if "" in orders:
        raise SoupConfError(
            f"{key}.order: recipe {name} has no order, found {order!r}; remove the key"
        )
    raise SoupConfError(f"{key}.order: recipe {name} has {' and '.join(orders)}, found {order!r}")


def _refuse_missing_task(name: str, task: str, objectives: Sequence[str], key: str) -> None:
    if task == "ssl" and name == "multilevel":
        advice = "set ssl: cpc, or use recipe: bilevel, which separates asr and st without it"
    elif task == "ssl":
        advice = "set ssl: cpc"
    elif name == "multilevel":
        advice = "use recipe: constrained, which has all labelled objectives on one level"
    else:
        advice = "use recipe: flat, or write levels: out"
    raise SoupConfError(
        f"{key}.recipe: {name} needs objectives of task {task}, found only "
        f"{', '.join(objectives)}; {advice}"
    )
