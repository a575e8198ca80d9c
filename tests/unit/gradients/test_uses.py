# SPDX-License-Identifier: Apache-2.0
"""Parameters and layers that are used in unusual ways, against autograd utterance by utterance."""

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from espnet_objsoup.gradients import rules
from espnet_objsoup.gradients.engine import ReferenceEngine, TaskLosses
from espnet_objsoup.gradients.grouped import GroupedEngine
from espnet_objsoup.gradients.layers import Layer, find_layers
from espnet_objsoup.gradients.rules import Rows, register_rule
from espnet_objsoup.models.objsoup_model import ESPnetObjSoupModel
from espnet_objsoup.objectives import LayerError

from ..models.model_factory import SIZE
from .test_engine import Gate, assert_close, both, with_encoder
from .test_reference import ROWS, SECONDS, double_batch
from .test_reuse import Step, compare

Change = Callable[[ESPnetObjSoupModel], None]


def squares(block: nn.Module) -> list[nn.Linear]:
    """Matrices of one shape."""
    found = [m for m in block.modules() if isinstance(m, nn.Linear) and m.weight.size(0) == SIZE]
    return [m for m in found if m.weight.size(1) == SIZE]


def tied_in_a_layer(model: ESPnetObjSoupModel) -> None:
    """Two modules of a layer have one matrix, but biases of their own."""
    first, second, *_ = squares(model.encoder.encoders[1].attn)
    second.weight = first.weight


def chained_in_a_layer(model: ESPnetObjSoupModel) -> None:
    """Three modules, of which the first and the last have nothing in common."""
    first, second, third, *_ = squares(model.encoder.encoders[1].attn)
    second.weight, third.bias = first.weight, second.bias


def called_twice(model: ESPnetObjSoupModel) -> None:
    block = model.encoder.encoders[1]
    block.norm_final = nn.Sequential(block.norm_final, block.norm_final)


def used_as_a_function(model: ESPnetObjSoupModel) -> None:
    block = model.encoder.encoders[1]
    weight = squares(block.attn)[0].weight
    block.register_forward_hook(
        lambda m, inputs, out: ((nn.functional.linear(out[0][0], weight), out[0][1]), out[1])
    )


def only_used_as_a_function(model: ESPnetObjSoupModel) -> None:
    """Its module is never called."""
    block = model.encoder.encoders[1]
    block.spare = nn.Linear(SIZE, SIZE, bias=False).double()
    block.register_forward_hook(
        lambda m, inputs, out: (
            (nn.functional.linear(out[0][0], block.spare.weight), out[0][1]),
            out[1],
        )
    )


def tied_below(model: ESPnetObjSoupModel) -> None:
    """The layer below, which is not measured, has a matrix of the measured layer."""
    below, above, *_ = (squares(block.attn)[0] for block in model.encoder.encoders)
    below.weight = above.weight


def tied_after_the_layers(model: ESPnetObjSoupModel) -> None:
    model.encoder.after_norm.weight = model.encoder.encoders[1].norm_final.weight


def tied_with_a_head(model: ESPnetObjSoupModel) -> None:
    matrix = squares(model.encoder.encoders[1].attn)[0]
    squares(model.heads["asr"].decoder)[0].weight = matrix.weight


def skip_from_within(model: ESPnetObjSoupModel) -> None:
    """Heads see what the lower layer has inside, past the upper one."""
    encoder, kept = model.encoder, []
    encoder.encoders[0].feed_forward.register_forward_hook(lambda m, i, out: kept.append(out))
    encoder.after_norm.register_forward_hook(lambda m, i, output: output + kept.pop())


def gate_between(model: ESPnetObjSoupModel) -> None:
    """A parameter without a rule in a layer that is not measured."""
    block = model.encoder.encoders[0]
    block.norm_final = nn.Sequential(block.norm_final, Gate().double())


def named_arguments(model: ESPnetObjSoupModel) -> None:
    """Modules called as `module(input=x)`."""
    attention = model.encoder.encoders[1].attn
    linear = attention.linear_out
    attention.linear_out = ByName(linear)


class ByName(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(input=x)


def checkpointed(model: ESPnetObjSoupModel) -> None:
    """A part of a layer whose activations the user's own code computes again."""
    block = model.encoder.encoders[1]
    forward = block.feed_forward.forward
    block.feed_forward.forward = lambda x: checkpoint(forward, x, use_reentrant=False)


def on_the_host(model: ESPnetObjSoupModel) -> None:
    """Activations kept elsewhere."""
    forward = model.encoder.forward

    def outside(*args: object, **kwargs: object) -> object:
        with torch.autograd.graph.save_on_cpu():
            return forward(*args, **kwargs)

    model.encoder.forward = outside


REUSED = [tied_in_a_layer, chained_in_a_layer, called_twice, named_arguments]
TWICE = {
    used_as_a_function: "also used outside of their module's calls",
    only_used_as_a_function: "also used outside of their module's calls",
    tied_after_the_layers: "a measured parameter is also used by another part of the model",
    skip_from_within: "also used outside of their module's calls",
    checkpointed: "activations are computed again",
    on_the_host: "activations are computed again",
}


@pytest.mark.parametrize("change", [*REUSED, *TWICE], ids=lambda change: change.__name__)
@pytest.mark.parametrize("chosen", [[1], [0, 1]], ids=str)
def test_gradients_and_gramian_are_autograds(
    change: Change, chosen: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    model = with_encoder("default").train()
    change(model)
    check(Step(model), chosen, TWICE.get(change), caplog)


@pytest.mark.parametrize("change", [tied_below, gate_between])
def test_what_the_layers_below_do(change: Change, caplog: pytest.LogCaptureFixture) -> None:
    model = with_encoder("default").train()
    change(model)
    layers = find_layers(model, model.shared_parameters(), "encoder.encoders.1")
    check(Step(model, layers), [0], None if change is gate_between else "another part", caplog)


def check(
    step: Step, chosen: list[int], reason: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    batch = double_batch(ROWS, SECONDS)
    expected, numerators = step.ordinary(batch, chosen)
    with caplog.at_level(logging.INFO):
        found, measured, ready = step.reusing(batch, chosen)
    assert (ready is None) == (reason is not None), caplog.text
    assert (reason or "") in caplog.text
    compare(found, expected)
    assert_close(measured, numerators)


def test_parameters_measured_by_the_reference_are_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = with_encoder("default").train()
    used_as_a_function(model)
    step = Step(model)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            step.reusing(double_batch(ROWS, SECONDS), [0, 1])
    assert caplog.text.count("encoder.encoders.1.attn.linear_q.weight: no rule, or used") == 1
    assert "linear_k" not in caplog.text


def test_parameter_of_a_head_is_no_layers() -> None:
    model = with_encoder("default")
    tied_with_a_head(model)
    with pytest.raises(LayerError, match="belongs to a head"):
        find_layers(model, model.shared_parameters())


def test_compiled_encoder_is_said_to_be_one() -> None:
    model = with_encoder("default")
    model.encoder = torch.compile(model.encoder)
    with pytest.raises(LayerError, match="compiled by torch.compile"):
        find_layers(model, model.shared_parameters())


def test_cast_that_uses_share_counts_each_use() -> None:
    """Mixed precision casts a matrix once for its module's call and for what else uses it."""
    model = with_encoder("default").float().eval()
    used_as_a_function(model)
    layers = find_layers(model, model.shared_parameters())
    batch = double_batch(ROWS, SECONDS)
    batch["speech"] = batch["speech"].float()
    engine = GroupedEngine(layers, 5)
    with torch.autocast("cpu", torch.bfloat16), engine.recording([0, 1]):
        out = model(**batch)
    losses = TaskLosses(out["utterance_losses"], out["objective_index"])
    found = engine.measure(losses, [0, 1])
    expected = ReferenceEngine(layers, 5).measure(losses, [0, 1])
    scale = expected.numerators.abs().max()
    assert (found.numerators - expected.numerators).abs().max() < 0.02 * scale


@pytest.mark.parametrize("stride", [1, -1])
def test_layers_in_any_order(stride: int) -> None:
    """A pattern may choose modules that stand side by side, or are called in another order."""
    model = with_encoder("default").train()
    block = model.encoder.encoders[1]
    names = ["feed_forward", "feed_forward_macaron", "attn", "cgmlp"]
    layers = find_layers(
        model, model.shared_parameters(), [f"encoder.encoders.1.{n}" for n in names]
    )
    assert len(layers) == len(names)
    assert_close(*both(model, double_batch(ROWS, SECONDS), layers[::stride]))
    assert block.training


def test_conformer_in_training_is_right_above_its_statistics() -> None:
    """What the documentation says of modules that mix utterances, both halves of it."""
    model = with_encoder("conformer").train()
    top = model.encoder.encoders[1]
    names = ["norm_ff", "feed_forward", "conv_module.norm", "conv_module.pointwise_conv2"]
    above = [
        Layer(n, top.get_submodule(n), tuple(top.get_submodule(n).parameters())) for n in names
    ]
    assert_close(*both(model, double_batch(ROWS, SECONDS), above))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        both(model, double_batch(ROWS, SECONDS))


def test_rule_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gate(module: Gate, x: Tensor, g: Tensor) -> list[Rows]:
        return [Rows((x * g).sum(1))]

    monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))
    register_rule(Gate, gate)
    model = with_encoder("default").train()
    block = model.encoder.encoders[1]
    block.norm_final = nn.Sequential(block.norm_final, Gate().double())
    Step(model).check(double_batch(ROWS, SECONDS), [0, 1])
    assert "no rule" not in caplog.text


@pytest.mark.parametrize(
    ("module_type", "rule", "message"),
    [
        (Gate(), lambda m, x, g: [], "expected a subclass of torch.nn.Module, found Gate"),
        (int, lambda m, x, g: [], "expected a subclass of torch.nn.Module, found <class 'int'>"),
        (Gate, "linear", "expected a function as the rule, found 'linear'"),
    ],
)
def test_registering_anything_else(module_type: object, rule: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        register_rule(module_type, rule)
