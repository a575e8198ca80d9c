# SPDX-License-Identifier: Apache-2.0
"""Which blocks of a model are its layers, and which of their parameters are measured."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from espnet_objsoup.objectives import LayerError

# Where ESPnet's encoders keep their blocks.
DEFAULT_PATTERN = "encoder.encoders.*"
# The position branch of relative attention is computed once for all utterances of a batch, so its
# gradient has no rows of objectives; it is left out of measuring (never out of the update).
_SHARED_BY_UTTERANCES = "linear_pos"


@dataclass(frozen=True)
class Layer:
    """A named block of the shared part.

    Attributes:
        name: of the module, such as `encoder.encoders.11`.
        module: the block.
        parameters: those that are measured.
    """

    name: str
    module: nn.Module
    parameters: tuple[nn.Parameter, ...]


def find_layers(
    model: nn.Module,
    shared: Iterable[nn.Parameter],
    pattern: str | Sequence[str] | None = None,
) -> list[Layer]:
    """Layers of a model, in its own order (from the input to the output).

    Args:
        model: without a distributed wrapper.
        shared: parameters that all objectives share.
        pattern: glob over module names, in which `*` stands for one component, or several globs;
            None: the blocks of the encoder.

    Raises:
        LayerError: if a glob matches nothing, layers overlap, or a layer has parameters of a head.
    """
    allowed = {id(parameter) for parameter in shared}
    patterns = [pattern or DEFAULT_PATTERN] if isinstance(pattern, str | None) else list(pattern)
    names = [name for name, _ in model.named_modules() if name]
    chosen: set[str] = set()
    for glob in patterns:
        expression = r"[^.]+".join(map(re.escape, glob.split("*")))
        found = [name for name in names if re.fullmatch(expression, name)]
        if not found and any("_orig_mod" in name.split(".") for name in names):
            raise LayerError(
                f"layers.pattern: {glob!r} matches no module of a model compiled by torch.compile; "
                "modules in it are called without hooks. Train it as it is, or compile parts that "
                "are not measured"
            )
        if not found:
            raise LayerError(
                f"layers.pattern: {glob!r} matches no module; the model has, for example, "
                f"{', '.join(_examples(names))}"
            )
        chosen.update(found)
    modules = dict(model.named_modules())
    layers = [_layer(name, modules[name], allowed) for name in names if name in chosen]
    _check_disjoint(layers)
    return [layer for layer in layers if layer.parameters]


def _examples(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.count(".") <= 2][:12]


def _layer(name: str, module: nn.Module, allowed: set[int]) -> Layer:
    parameters = []
    for own_name, parameter in module.named_parameters():
        if not parameter.requires_grad or _SHARED_BY_UTTERANCES in own_name.split("."):
            continue
        if id(parameter) not in allowed:
            raise LayerError(
                f"layers.pattern: {name}.{own_name} belongs to a head; expected layers that all "
                "objectives share"
            )
        parameters.append(parameter)
    return Layer(name, module, tuple(parameters))


def _check_disjoint(layers: Sequence[Layer]) -> None:
    owner: dict[int, str] = {}
    for layer in layers:
        for parameter in layer.parameters:
            if id(parameter) in owner:
                raise LayerError(
                    f"layers.pattern: {layer.name} and {owner[id(parameter)]} have parameters in "
                    "common; expected disjoint layers"
                )
            owner[id(parameter)] = layer.name
