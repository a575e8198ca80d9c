# SPDX-License-Identifier: Apache-2.0
"""Weights of objectives and coefficients of levels. Imports torch, never espnet2."""

from espnet_objsoup.weighting.checks import NonFiniteGramianError
from espnet_objsoup.weighting.gramian_estimate import (
    RunningGramian,
    conflict_rate,
    project_to_psd,
    step_gramian,
)
from espnet_objsoup.weighting.soup import Soup, SoupMismatchError

__all__ = [
    "NonFiniteGramianError",
    "RunningGramian",
    "Soup",
    "SoupMismatchError",
    "conflict_rate",
    "project_to_psd",
    "step_gramian",
]
