# SPDX-License-Identifier: Apache-2.0
"""Objectives and the soups made of them. Imports neither torch nor espnet2."""

from espnet_objsoup.objectives.layers_conf import LayerError, LayersConf
from espnet_objsoup.objectives.levels import LevelSpec, resolve_levels
from espnet_objsoup.objectives.options import SoupConfError
from espnet_objsoup.objectives.recipes import RECIPES
from espnet_objsoup.objectives.soup_conf import SOUP_KEYS, check_soup_conf
from espnet_objsoup.objectives.spec import ObjectiveError, ObjectiveSpec, match, report_key
from espnet_objsoup.objectives.static_weights import resolve_weights
from espnet_objsoup.objectives.table import level_coefficients, soup_table, waiting_note
from espnet_objsoup.objectives.trainer_conf import (
    GRADIENT_ENGINES,
    SoupConf,
    TrainerConfError,
    check_trainer_conf,
)
from espnet_objsoup.objectives.weighting_table import REFUSED, WEIGHTINGS

__all__ = [
    "GRADIENT_ENGINES",
    "RECIPES",
    "REFUSED",
    "SOUP_KEYS",
    "WEIGHTINGS",
    "LayerError",
    "LayersConf",
    "LevelSpec",
    "ObjectiveError",
    "ObjectiveSpec",
    "SoupConf",
    "SoupConfError",
    "TrainerConfError",
    "check_soup_conf",
    "check_trainer_conf",
    "level_coefficients",
    "match",
    "report_key",
    "resolve_levels",
    "resolve_weights",
    "soup_table",
    "waiting_note",
]
