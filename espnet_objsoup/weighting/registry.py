# SPDX-License-Identifier: Apache-2.0
"""From the name of a weighting to the object."""

from espnet_objsoup.objectives.levels import LevelSpec
from espnet_objsoup.weighting.base import Weighting
from espnet_objsoup.weighting.modo import MoDo, Static, Uniform
from espnet_objsoup.weighting.scalarizers import SCALARIZERS
from espnet_objsoup.weighting.torchjd_gramian import GRAMIAN_WEIGHTINGS

BUILDERS: dict[str, type[Weighting]] = {
    "static": Static,
    "uniform": Uniform,
    "modo": MoDo,
    **GRAMIAN_WEIGHTINGS,
    **SCALARIZERS,
}


def build_weighting(level: LevelSpec) -> Weighting:
    """The weighting of a level that `resolve_levels` has checked."""
    return BUILDERS[level.weighting](level.objectives, level.weighting_conf)
