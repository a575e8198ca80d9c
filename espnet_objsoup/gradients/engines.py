# SPDX-License-Identifier: Apache-2.0
"""Engines by their names in `trainer_conf.gradient_engine`."""

from collections.abc import Iterable, Sequence

from torch import nn

from espnet_objsoup.gradients.engine import GradientEngine, ReferenceEngine
from espnet_objsoup.gradients.grouped import GroupedEngine
from espnet_objsoup.gradients.layers import Layer

ENGINES: dict[str, type[GradientEngine]] = {
    "grouped": GroupedEngine,
    "reference": ReferenceEngine,
}


def make_engine(
    name: str,
    layers: Sequence[Layer],
    n_objectives: int,
    model: nn.Module | None = None,
    shared: Iterable[nn.Parameter] = (),
    unbiased: bool = True,
) -> GradientEngine:
    """An engine by its name in `trainer_conf.gradient_engine`.

    Args:
        name: `grouped` or `reference`.
        layers, n_objectives: of the model.
        model, shared: as for GroupedEngine.
        unbiased: as for GradientEngine.
    """
    if name == "grouped":
        return GroupedEngine(layers, n_objectives, model, shared, unbiased)
    return ENGINES[name](layers, n_objectives, unbiased)
