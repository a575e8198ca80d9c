# SPDX-License-Identifier: Apache-2.0
"""What modules were given and what they returned in a forward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from espnet_objsoup.gradients.layers import Layer
from espnet_objsoup.gradients.rules import Rule, broadcast_shapes, rule_of


@dataclass(frozen=True)
class Call:
    """One call of a module with a rule, or one use of a parameter.

    Attributes:
        layer: index of the measured layer.
        key: what belongs together: calls of a module, uses of a parameter.
        output: tensor whose cotangent is needed.
        x: input of the module; None for a parameter.
        module, rule: None for a parameter.
        version: of the output when it was recorded; a later one was changed in place.
    """

    layer: int
    key: int
    output: Tensor
    x: Tensor | None = None
    module: nn.Module | None = None
    rule: Rule | None = None
    version: int = 0


@dataclass
class LayerTaps:
    """How a layer is measured.

    Attributes:
        modules: with a rule.
        parameters: (module, attribute, shape per utterance) of those held directly.
        others: parameters without a rule.
        without_rule: names of modules that hold them.
    """

    modules: list[tuple[nn.Module, Rule]] = field(default_factory=list)
    parameters: list[tuple[nn.Module, str, tuple[int, ...]]] = field(default_factory=list)
    others: list[nn.Parameter] = field(default_factory=list)
    without_rule: list[str] = field(default_factory=list)


def plan(layer: Layer) -> LayerTaps:
    """Find rules for all measured parameters of a layer."""
    measured = {id(parameter) for parameter in layer.parameters}
    taps = LayerTaps()
    for name, module in layer.module.named_modules():
        own = {
            attribute: parameter
            for attribute, parameter in module.named_parameters(recurse=False)
            if id(parameter) in measured
        }
        if not own:
            continue
        rule = rule_of(module)
        if rule is not None:
            taps.modules.append((module, rule))
            continue
        shapes = broadcast_shapes(module)
        for attribute, parameter in own.items():
            if attribute in shapes:
                taps.parameters.append((module, attribute, shapes[attribute]))
            else:
                taps.others.append(parameter)
                taps.without_rule.append(
                    f"{layer.name}.{name}.{attribute} ({type(module).__name__})"
                )
    return taps


class Recorder:
    """Records the calls of planned layers in a forward pass.

    Attributes:
        calls: in the order in which they were made.
        boundaries: layer -> what it returned, tensor by tensor.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.boundaries: dict[int, list[Tensor]] = {}

    def take(self) -> tuple[list[Call], dict[int, list[Tensor]]]:
        """Hand over what was recorded, and forget it."""
        taken = self.calls, self.boundaries
        self.calls, self.boundaries = [], {}
        return taken

    @contextmanager
    def recording(self, layers: Sequence[tuple[int, Layer, LayerTaps]]) -> Iterator[None]:
        """Within it, calls of the layers' modules are recorded.

        Args:
            layers: (index, layer, plan) of the layers to measure.
        """
        self.take()
        handles = []
        for index, layer, taps in layers:
            handles.append(layer.module.register_forward_hook(self._boundary_hook(index)))
            for module, rule in taps.modules:
                handles.append(module.register_forward_hook(self._hook(index, rule)))
            for module, attribute, shape in taps.parameters:
                before, after = self._stand_in(index, attribute, shape)
                handles.append(module.register_forward_pre_hook(before))
                handles.append(module.register_forward_hook(after, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, layer: int, rule: Rule) -> Any:
        def record(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            if torch.is_grad_enabled() and output.requires_grad:
                x = inputs[0].detach()
                self.calls.append(Call(layer, id(module), output, x, module, rule, output._version))

        return record

    def _boundary_hook(self, layer: int) -> Any:
        def record(module: nn.Module, inputs: tuple, output: Any) -> None:
            tensors = [x for x in tree_leaves(output) if isinstance(x, Tensor) and x.requires_grad]
            self.boundaries.setdefault(layer, []).extend(tensors)

        return record

    def _stand_in(self, layer: int, attribute: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Hooks that put a copy per utterance in a parameter's place, and back."""
        kept: list[nn.Parameter] = []

        def before(module: nn.Module, inputs: tuple) -> None:
            parameter = module._parameters[attribute]
            kept.append(parameter)
            if torch.is_grad_enabled():
                copies = parameter.expand(inputs[0].size(0), *shape)
                self.calls.append(Call(layer, id(parameter), copies, version=copies._version))
                module._parameters[attribute] = copies

        def after(module: nn.Module, inputs: tuple, output: Any) -> None:
            module._parameters[attribute] = kept.pop()

        return before, after
