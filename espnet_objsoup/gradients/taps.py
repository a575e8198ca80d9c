# SPDX-License-Identifier: Apache-2.0
"""What modules were given and what they returned in a forward pass."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from espnet_objsoup.gradients.layers import Layer
from espnet_objsoup.gradients.rules import Rule, broadcast_shapes, once_for_all, rule_of

# Index of what is no layer: shared modules before, between and after the layers.
NO_LAYER = -1


@dataclass(frozen=True)
class Call:
    """One call of a module with a rule, or one use of a parameter.

    Attributes:
        layer: index of the layer, or NO_LAYER.
        output: tensor whose cotangent is needed.
        parameters: that the rule's blocks belong to, in their order.
        x: input of the module; None for a parameter. One row for all utterances where the module
            computes something once.
        module, rule: None for a parameter.
        version: of the output when it was recorded; a later one was changed in place.
        counted: whether its gradients are part of the Gramian.
    """

    layer: int
    output: Tensor
    parameters: tuple[nn.Parameter, ...]
    x: Tensor | None = None
    module: nn.Module | None = None
    rule: Rule | None = None
    version: int = 0
    counted: bool = True


@dataclass(frozen=True)
class Tap:
    """A module whose calls are recorded.

    Attributes:
        module, rule: of its own parameters.
        parameters: those that need a gradient, in the module's order.
    """

    module: nn.Module
    rule: Rule
    parameters: tuple[nn.Parameter, ...]


@dataclass
class LayerTaps:
    """How a layer is measured.

    Attributes:
        modules: with a rule.
        parameters: (module, attribute, shape per utterance) of those held directly.
        without_rule: names of parameters that none of these covers.
        uncounted: modules with a rule whose parameters are updated but not measured.
        once: (module, child, position of the argument): the child computes something once for all
            utterances, from that argument.
    """

    modules: list[Tap] = field(default_factory=list)
    parameters: list[tuple[nn.Module, str, tuple[int, ...]]] = field(default_factory=list)
    without_rule: list[str] = field(default_factory=list)
    uncounted: list[Tap] = field(default_factory=list)
    once: list[tuple[nn.Module, nn.Module, int]] = field(default_factory=list)


def plan(layer: Layer) -> LayerTaps:
    """Find rules for all parameters of a layer."""
    measured = {id(parameter) for parameter in layer.parameters}
    taps = LayerTaps()
    for name, module in layer.module.named_modules():
        trained = {
            attribute: parameter
            for attribute, parameter in module.named_parameters(recurse=False)
            if parameter.requires_grad
        }
        child = once_for_all(module)
        if child is not None:
            taps.once.append((module, getattr(module, child[0]), child[1]))
        if not trained:
            continue
        own = {name: p for name, p in trained.items() if id(p) in measured}
        rule = rule_of(module)
        if rule is not None:
            target = taps.modules if own else taps.uncounted
            target.append(Tap(module, rule, tuple(trained.values())))
            continue
        shapes = broadcast_shapes(module)
        for attribute in own:
            if attribute in shapes:
                taps.parameters.append((module, attribute, shapes[attribute]))
            else:
                taps.without_rule.append(
                    f"{layer.name}.{name}.{attribute} ({type(module).__name__})"
                )
    return taps


def plan_surroundings(
    model: nn.Module, shared: Iterable[nn.Parameter], layers: Sequence[Layer]
) -> LayerTaps:
    """What shared modules outside of all layers need: recorded, never measured.

    Args:
        model: that the layers are of.
        shared: parameters that all objectives share.
        layers: whose modules are left out.
    """
    inside = {id(module) for layer in layers for module in layer.module.modules()}
    wanted = {id(parameter) for parameter in shared}
    taps = LayerTaps()
    for module in model.modules():
        trained = tuple(p for p in module.parameters(recurse=False) if p.requires_grad)
        if id(module) in inside or not any(id(p) in wanted for p in trained):
            continue
        rule = rule_of(module)
        if rule is not None:
            taps.uncounted.append(Tap(module, rule, trained))
    return taps


@dataclass
class Recorded:
    """What a forward pass left.

    Attributes:
        calls: in the order in which they were made.
        outputs: layer -> what it returned, tensor by tensor.
        entries: what the lowest recorded layer was given; None: it was not called.
        hidden: layers that were called without a graph.
        stored_elsewhere: whether activations are not kept as they are, but computed again in
            backward passes (checkpointing), or kept on another device.
    """

    calls: list[Call] = field(default_factory=list)
    outputs: dict[int, list[Tensor]] = field(default_factory=dict)
    entries: list[Tensor] | None = None
    hidden: set[int] = field(default_factory=set)
    stored_elsewhere: bool = False


class Recorder:
    """Records the calls of planned layers in a forward pass."""

    def __init__(self) -> None:
        self._recorded = Recorded()

    def take(self) -> Recorded:
        """Hand over what was recorded, and forget it."""
        taken, self._recorded = self._recorded, Recorded()
        return taken

    @contextmanager
    def recording(
        self,
        layers: Sequence[tuple[int, nn.Module, LayerTaps]],
        counted: Sequence[int],
        whole: bool = False,
    ) -> Iterator[None]:
        """Within it, calls of the layers' modules are recorded.

        Args:
            layers: (index, module, plan), the lowest first; NO_LAYER for what surrounds them.
            counted: indices of those to measure.
            whole: also record what is not measured.
        """
        self.take()
        handles: list[RemovableHandle] = []
        for n, (index, module, taps) in enumerate(layers):
            if index != NO_LAYER:
                handles.append(module.register_forward_hook(self._note_outputs(index)))
                if n == 0:
                    handles.append(module.register_forward_pre_hook(self._note_entries))
            for tap in taps.modules:
                hook = self._note_call(index, tap, index in counted)
                handles.append(tap.module.register_forward_hook(hook, with_kwargs=True))
            for owner, attribute, shape in taps.parameters:
                before, after = self._stand_in(index, attribute, shape, index in counted)
                handles.append(owner.register_forward_pre_hook(before, with_kwargs=True))
                handles.append(owner.register_forward_hook(after, always_call=True))
            if whole:
                handles += self._whole(index, taps)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _whole(self, index: int, taps: LayerTaps) -> list[RemovableHandle]:
        """Hooks on what is not measured."""
        handles = []
        # A copy per utterance has to be there before its module's call is recorded.
        for owner, child, position in taps.once:
            before, cut, expand = _copies_per_utterance(position)
            handles.append(owner.register_forward_pre_hook(before))
            handles.append(child.register_forward_pre_hook(cut))
            handles.append(child.register_forward_hook(expand))
        for tap in taps.uncounted:
            hook = self._note_call(index, tap, False)
            handles.append(tap.module.register_forward_hook(hook, with_kwargs=True))
        return handles

    def _note_call(self, layer: int, tap: Tap, counted: bool) -> Any:
        def record(module: nn.Module, inputs: tuple, named: dict, output: Tensor) -> None:
            if torch.is_grad_enabled() and output.requires_grad:
                self._recorded.stored_elsewhere |= _stores_elsewhere()
                self._recorded.calls.append(
                    Call(
                        layer,
                        output,
                        tap.parameters,
                        _first(inputs, named).detach(),
                        module,
                        tap.rule,
                        output._version,
                        counted,
                    )
                )

        return record

    def _note_outputs(self, layer: int) -> Any:
        def record(module: nn.Module, inputs: tuple, output: Any) -> None:
            if not torch.is_grad_enabled():
                self._recorded.hidden.add(layer)
            self._recorded.outputs.setdefault(layer, []).extend(_with_gradient(output))

        return record

    def _note_entries(self, module: nn.Module, inputs: tuple) -> None:
        known = self._recorded.entries or []
        self._recorded.entries = [*known, *_with_gradient(inputs)]

    def _stand_in(
        self, layer: int, attribute: str, shape: tuple[int, ...], counted: bool
    ) -> tuple[Any, Any]:
        """Hooks that put a copy per utterance in a parameter's place, and back."""
        kept: list[nn.Parameter] = []

        def before(module: nn.Module, inputs: tuple, named: dict) -> None:
            parameter = module._parameters[attribute]
            kept.append(parameter)
            if torch.is_grad_enabled():
                copies = parameter.expand(_first(inputs, named).size(0), *shape)
                self._recorded.calls.append(
                    Call(
                        layer,
                        copies,
                        (parameter,),
                        version=copies._version,
                        counted=counted,
                    )
                )
                module._parameters[attribute] = copies

        def after(module: nn.Module, inputs: tuple, output: Any) -> None:
            module._parameters[attribute] = kept.pop()

        return before, after


def _stores_elsewhere() -> bool:
    """Whether something else than autograd keeps what backward passes need.

    PyTorch has no public way to ask.
    """
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def _first(inputs: tuple, named: dict) -> Tensor:
    """The first argument of a call, by position or by name."""
    return inputs[0] if inputs else next(iter(named.values()))


def _with_gradient(values: Any) -> list[Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, Tensor) and x.requires_grad]


def _copies_per_utterance(position: int) -> tuple[Any, Any, Any]:
    """Hooks by which a module sees a copy per utterance of what its child computes once.

    The child still computes it once; only its result is expanded, so that the cotangent of the
    result has a row per utterance.
    """
    copies: list[int] = []  # empty where the argument has a row per utterance already

    def before(module: nn.Module, inputs: tuple) -> tuple | None:
        copies.clear()
        if len(inputs) <= position or inputs[position].size(0) != 1:
            return None
        copies.append(inputs[0].size(0))
        expanded = inputs[position].expand(copies[0], *inputs[position].shape[1:])
        return (*inputs[:position], expanded, *inputs[position + 1 :])

    def cut(module: nn.Module, inputs: tuple) -> tuple | None:
        return (inputs[0][:1],) if copies else None

    def expand(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
        return output.expand(copies[0], *output.shape[1:]) if copies else None

    return before, cut, expand
