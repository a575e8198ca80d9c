# SPDX-License-Identifier: Apache-2.0
"""Names of objectives, globs over them and fixed weights. Imports neither torch nor espnet2."""

from espnet_objsoup.objectives.spec import ObjectiveError, ObjectiveSpec, match
from espnet_objsoup.objectives.static_weights import resolve_weights

__all__ = ["ObjectiveError", "ObjectiveSpec", "match", "resolve_weights"]
