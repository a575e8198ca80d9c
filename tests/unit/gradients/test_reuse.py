# SPDX-License-Identifier: Apache-2.0
"""The step's gradients, taken from the measuring passes, against an ordinary backward pass."""

import gc
import logging
import weakref
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from espnet_objsoup.gradients import products
from espnet_objsoup.gradients.engine import ReferenceEngine, TaskLosses
from espnet_objsoup.gradients.grouped import GroupedEngine
from espnet_objsoup.gradients.layers import Layer, find_layers
from espnet_objsoup.gradients.reuse import ReadyGradients, StepLoss, objective_weights
from espnet_objsoup.gradients.statistic import GramianStatistic
from espnet_objsoup.models.gradient_scale import GradientScale
from espnet_objsoup.models.objsoup_model import ESPnetObjSoupModel

from ..models.model_factory import make_ssl_model
from .test_engine import ENCODERS, Gate, method, with_encoder  # noqa: F401 (a fixture)
from .test_reference import ROWS, SECONDS, double_batch

K_FACTORS = [0.4, 1.6, 0.7, 1.1, 0.3, 0.05]


class Step:
    """One step of a model whose gradients are weighted where heads begin."""

    def __init__(
        self,
        model: ESPnetObjSoupModel,
        layers: Sequence[Layer] | None = None,
        accum_grad: int = 1,
        wrapped: nn.Module | None = None,
    ) -> None:
        self.model = model
        self.forward_of = wrapped or model
        self.layers = layers or find_layers(model, model.shared_parameters())
        k = len(model.objectives)
        self.scale = GradientScale(torch.tensor(K_FACTORS[:k], dtype=torch.float64))
        self.engine = GroupedEngine(self.layers, k, model=model, shared=model.shared_parameters())
        model.gradient_scale = self.scale
        self.weights = 1.0 / torch.arange(2.0, 2.0 + k, dtype=torch.float64)
        self.accum_grad = accum_grad

    def forward(self, batch: dict, chosen: Sequence[int]) -> tuple[dict, Tensor]:
        torch.manual_seed(4)  # dropout
        self.model.zero_grad()
        with self.engine.recording(chosen), self.scale.noting_inputs(bool(chosen)):
            output = self.forward_of(**batch)
        losses = torch.stack(list(output["losses"].values()))
        counts = torch.stack(list(output["counts"].values()))
        return output, (self.weights.to(losses) * losses * counts).sum() / self.accum_grad

    def backward(self, loss: Tensor) -> dict[str, Tensor | None]:
        self.scale.active = True
        loss.backward()
        self.scale.active = False
        return {name: p.grad for name, p in self.model.named_parameters()}

    def ordinary(self, batch: dict, chosen: Sequence[int]) -> tuple[dict, Tensor]:
        """Gradients of an ordinary backward pass, and numerators measured beside it."""
        output, loss = self.forward(batch, [])
        gradients = {n: None if g is None else g.clone() for n, g in self.backward(loss).items()}
        torch.manual_seed(4)
        output = self.model(**batch)
        losses = TaskLosses(output["utterance_losses"], output["objective_index"])
        reference = ReferenceEngine(self.layers, len(self.model.objectives))
        return gradients, reference.measure(losses, chosen).numerators

    def measure(
        self, output: dict, loss: Tensor, chosen: Sequence[int], scale: float = 1.0
    ) -> tuple[GramianStatistic, ReadyGradients | None]:
        losses = TaskLosses(output["utterance_losses"], output["objective_index"])
        step = StepLoss(loss, self.scale.take_inputs(), self.scale.factors)
        return self.engine.measure_and_reuse(losses, chosen, step, scale)

    def reusing(
        self, batch: dict, chosen: Sequence[int], scale: float = 1.0
    ) -> tuple[dict, Tensor, ReadyGradients | None]:
        output, loss = self.forward(batch, chosen)
        statistic, ready = self.measure(output, loss, chosen, scale)
        attached = loss if ready is None else ready.attach(loss)
        torch.testing.assert_close(attached, loss)
        return self.backward(attached), statistic.numerators, ready

    def check(self, batch: dict, chosen: Sequence[int], scale: float = 1.0) -> ReadyGradients:
        expected, numerators = self.ordinary(batch, chosen)
        found, reused_numerators, ready = self.reusing(batch, chosen, scale)
        assert ready is not None
        compare(found, expected)
        bound = 1e-8 * float(numerators.abs().max())
        torch.testing.assert_close(reused_numerators, numerators, rtol=1e-6, atol=bound)
        return ready


def compare(found: dict, expected: dict) -> None:
    for name, value in expected.items():
        if value is None:
            assert found[name] is None, name
            continue
        torch.testing.assert_close(
            found[name],
            value,
            rtol=1e-6,
            # ESPnet's CTC works in single precision.
            atol=2e-7 * float(value.abs().max()) + 1e-12,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize(
    "name",
    [name for name in ["default", *ENCODERS] if name != "conformer"],
)
@pytest.mark.parametrize("chosen", [[1], [0, 1], [0]], ids=str)
def test_gradients_of_every_parameter(name: str, chosen: list[int], method: str) -> None:  # noqa: F811
    """Measured layers at the top, all, and only the lowest, with what lies in between."""
    model = with_encoder(name).train()
    Step(model).check(double_batch(ROWS, [1.5 * s for s in SECONDS]), chosen)


@pytest.mark.parametrize("kind", ["cpc", "best_rq"])
@pytest.mark.parametrize("chosen", [[1], [0, 1]], ids=str)
def test_two_encoder_passes(kind: str, chosen: list[int]) -> None:
    model = with_encoder("default", kind).train()
    rows = [*ROWS, (None, None, 0, 0)]  # unlabelled: in ssl only
    Step(model).check(double_batch(rows, [*SECONDS, 0.9]), chosen)


def test_one_decoder_for_both_tasks() -> None:
    model = make_ssl_model("cpc", shared_decoder=True).double().train()
    step = Step(model)
    step.check(double_batch(ROWS, SECONDS), [1])
    output, loss = step.forward(double_batch(ROWS, SECONDS), [1])
    step.measure(output, loss, [1])
    with pytest.raises(RuntimeError, match="second time"):
        output["utterance_losses"]["st"].sum().backward()


@pytest.mark.parametrize("frozen", ["encoders.0", "encoders.1", "after_norm", "embed"])
def test_frozen_parts(frozen: str) -> None:
    model = with_encoder("default").train()
    model.encoder.get_submodule(frozen).requires_grad_(False)
    step = Step(model)
    step.check(double_batch(ROWS, SECONDS), list(range(len(step.layers))))


def test_a_layer_whose_work_is_left_out() -> None:
    """Stochastic depth: the layer is called, and gives back what it was given."""
    model = with_encoder("branchformer").train()
    model.encoder.encoders[1].stochastic_depth_rate = 1.0 - 1e-9
    step = Step(model)
    _, numerators = step.ordinary(double_batch(ROWS, SECONDS), [0, 1])
    assert float(numerators[1].abs().max()) == 0.0
    assert float(numerators[0].abs().max()) > 0.0
    step.check(double_batch(ROWS, SECONDS), [0, 1])


@pytest.mark.parametrize("dropped", [0, 1])
def test_a_layer_that_is_dropped(dropped: int, caplog: pytest.LogCaptureFixture) -> None:
    """Its gradients are zero, on this process alone: no reason to end them all."""
    model = with_encoder("default").train()
    step = Step(model)
    model.encoder.encoders = nn.ModuleList([model.encoder.encoders[1 - dropped]])
    batch = double_batch(ROWS, SECONDS)
    expected, numerators = step.ordinary(batch, [0, 1])
    with caplog.at_level(logging.INFO):
        found, measured, ready = step.reusing(batch, [0, 1])
    assert ready is None
    assert "a layer was not called" in caplog.text
    compare(found, expected)
    assert float(measured[dropped].abs().max()) == 0.0
    torch.testing.assert_close(measured, numerators, rtol=1e-9, atol=1e-15)


def test_a_task_without_graph() -> None:
    step = Step(with_encoder("default").train())
    output, _ = step.forward(double_batch(ROWS, SECONDS), [1])
    losses = dict(output["utterance_losses"])
    losses["st"] = losses["st"].detach()
    loss = losses["asr"].sum()
    found = StepLoss(loss, [], step.scale.factors).row_weights(losses)
    assert set(found) == {"asr"}
    assert found["asr"].tolist() == [1.0] * len(found["asr"])


def test_parameters_never_share_a_gradient() -> None:
    """Clipping in place would act on both at once."""
    first, second = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(6))
    ready, gradient = ReadyGradients(), torch.arange(6.0)
    ready.add(first, gradient)
    ready.add(second, gradient)
    loss = ready.attach(torch.zeros((), requires_grad=True))
    loss.backward()
    first.grad.mul_(2.0)
    torch.testing.assert_close(second.grad, torch.arange(6.0))
    torch.testing.assert_close(first.grad, 2 * torch.arange(6.0).view(2, 3))


def test_what_is_not_measured_after_all_is_let_go() -> None:
    """A step skipped for a NaN holds no activations until the next one that measures."""
    step = Step(with_encoder("default").train())
    kept: list[weakref.ref] = []
    step.layers[1].module.norm_final.register_forward_hook(
        lambda m, inputs, output: kept.append(
            weakref.ref(step.engine.recorder._recorded.calls[-1].x)
        )
    )
    step.forward(double_batch(ROWS, SECONDS), [0, 1])
    gc.collect()
    assert kept[0]() is not None
    step.engine.forget()
    gc.collect()
    assert kept[0]() is None


@pytest.mark.parametrize("absent", ["st", "asr", "ssl", "labels", "all"])
def test_absent_tasks_leave_zeros_not_holes(absent: str) -> None:
    """With several processes a parameter without a gradient would be waited for for ever."""
    model = with_encoder("default", "cpc").train()
    rows = list(ROWS)
    if absent in ("st", "labels", "all"):
        rows = [(lang, None, n_text, 0) for lang, _, n_text, _ in rows]
    if absent in ("asr", "labels", "all"):
        rows = [(lang, tgt, 0, n_st) for lang, tgt, _, n_st in rows]
    if absent in ("ssl", "all"):
        model.ssl_head.usable = lambda lengths: torch.zeros_like(lengths, dtype=torch.bool)
    batch = double_batch(rows, SECONDS)
    step = Step(model)
    expected, _ = step.ordinary(batch, [0, 1])
    assert all(value is not None for value in expected.values())
    found, _, ready = step.reusing(batch, [0, 1])
    assert ready is not None
    compare(found, expected)


@pytest.mark.parametrize("scale", [2.0**12, 2.0**-3])
def test_scale_of_half_precision(scale: float) -> None:
    Step(with_encoder("default").train(), accum_grad=3).check(
        double_batch(ROWS, SECONDS), [0, 1], scale
    )


def test_plain_sum_of_losses() -> None:
    """Recipe static that only monitors: no factors where heads begin."""
    step = Step(with_encoder("default").train())
    step.scale.factors = torch.ones_like(step.scale.factors)
    step.check(double_batch(ROWS, SECONDS), [1])


def test_incoming_factor() -> None:
    """A scaler multiplies the loss after measuring."""
    step = Step(with_encoder("default").train())
    batch = double_batch(ROWS, SECONDS)
    expected, _ = step.ordinary(batch, [1])
    output, loss = step.forward(batch, [1])
    _, ready = step.measure(output, loss, [1], 8.0)
    found = step.backward(8.0 * ready.attach(loss))
    compare({name: g / 8.0 for name, g in found.items()}, expected)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.bfloat16, 1.0), (torch.float16, 2.0**8)])
def test_half_precision(dtype: torch.dtype, scale: float) -> None:
    model = with_encoder("default").float().eval()
    batch = double_batch(ROWS, SECONDS)
    batch["speech"] = batch["speech"].float()
    step = Step(model)
    expected, _ = step.ordinary(batch, [0, 1])
    with torch.autocast("cpu", dtype):
        output, loss = step.forward(batch, [0, 1])
    _, ready = step.measure(output, loss, [0, 1], scale)
    found = step.backward(scale * ready.attach(loss))
    found = {name: gradient / scale for name, gradient in found.items()}
    largest = max(float(value.norm()) for value in expected.values())
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        # Some are zero but for rounding: biases of keys.
        error = (found[name] - value).norm() / (value.norm() + 1e-3 * largest)
        assert error < 0.1, f"{name}: {error}"


def test_accumulation_adds_up() -> None:
    step = Step(with_encoder("default").train())
    batch = double_batch(ROWS, SECONDS)
    expected, _ = step.ordinary(batch, [1])
    found, _, _ = step.reusing(batch, [1])
    first = {name: g.clone() for name, g in found.items()}
    kept = step.model.zero_grad
    step.model.zero_grad = lambda: None
    second, _, _ = step.reusing(batch, [1])
    step.model.zero_grad = kept
    compare(first, expected)
    compare(second, {name: 2 * g for name, g in expected.items()})


def bypass(model: ESPnetObjSoupModel) -> None:
    """Heads that see the lowest block's output, too."""
    encoder, kept = model.encoder, []
    encoder.encoders[0].register_forward_hook(lambda m, i, output: kept.append(output[0][0]))
    forward = model.task_outputs

    def outputs(inputs: dict, batch: dict) -> dict:
        found = forward(inputs, batch)
        found["asr"].losses.add_(kept.pop().flatten(1).sum(1) * 1e-3)
        return found

    model.task_outputs = outputs


def skip(model: ESPnetObjSoupModel) -> None:
    """A connection past all blocks."""
    encoder, kept = model.encoder, []
    encoder.encoders[0].register_forward_pre_hook(lambda m, inputs: kept.append(inputs[0][0]))
    encoder.after_norm.register_forward_hook(lambda m, i, output: output + kept.pop())


def gate(model: ESPnetObjSoupModel) -> None:
    """A parameter without a rule after the blocks."""
    model.encoder.after_norm = nn.Sequential(model.encoder.after_norm, Gate().double())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (bypass, "a head uses more of the shared part"),
        (skip, "have no rule, work on all utterances at once"),
        (gate, "have no rule, work on all utterances at once"),
    ],
)
def test_what_cannot_be_reused_is_done_as_ever(
    change: Callable[[ESPnetObjSoupModel], None], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = with_encoder("default").train()
    change(model)
    step = Step(model)
    batch = double_batch(ROWS, SECONDS)
    expected, numerators = step.ordinary(batch, [1])
    with caplog.at_level(logging.INFO):
        found, measured, ready = step.reusing(batch, [1])
    assert ready is None
    assert reason in caplog.text
    compare(found, expected)
    torch.testing.assert_close(measured, numerators, rtol=1e-9, atol=1e-15)


def test_other_terms_of_the_loss_are_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    step = Step(with_encoder("default").train())
    output, loss = step.forward(double_batch(ROWS, SECONDS), [1])
    loss = loss + sum((p**2).sum() for p in step.model.parameters())
    with caplog.at_level(logging.INFO):
        _, ready = step.measure(output, loss, [1])
    assert ready is None
    assert "does not consist of the utterances' losses alone" in caplog.text


def test_weights_of_objectives() -> None:
    index = {"asr": torch.tensor([0, 1, -1]), "st": torch.tensor([-1, 2, 2])}
    rows = {"asr": torch.tensor([0.5, 0.2, 9.0]), "st": torch.tensor([7.0, 0.1, 0.1])}
    membership = products.Membership(index, 4, "cpu")
    weights = objective_weights(rows, membership)
    torch.testing.assert_close(weights.float(), torch.tensor([0.5, 0.2, 0.1, 1.0]))
    rows["st"][1] = 0.2  # utterances of one objective differ
    assert objective_weights(rows, membership) is None
    rows["st"][:] = 0.0  # cannot be divided out
    assert objective_weights(rows, membership) is None


def test_one_backward_pass_frees_what_it_went_through() -> None:
    """Peak memory is that of a plain step: heads' activations go before the layers' cotangents."""
    step = Step(with_encoder("default").train())
    output, loss = step.forward(double_batch(ROWS, SECONDS), [0, 1])
    step.measure(output, loss, [0, 1])
    with pytest.raises(RuntimeError, match="second time"):
        output["utterance_losses"]["asr"].sum().backward()


def test_products_give_their_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """All ways of forming products return the same sums by objective."""
    draw = torch.Generator().manual_seed(0)
    index = {"asr": torch.tensor([0, 2, -1, 0]), "st": torch.tensor([1, -1, 1, 3])}
    batch = products.Membership(index, 5, "cpu")
    blocks = {
        task: products.Factors(
            torch.randn(4, 6, 3, generator=draw, dtype=torch.float64),
            torch.randn(4, 6, 2, generator=draw, dtype=torch.float64),
        )
        for task in index
    }
    expected = torch.zeros(4, 6, dtype=torch.float64)
    for task, column in index.items():
        for b, k in enumerate(column.tolist()):
            if k >= 0:
                expected[k] += (blocks[task].g[b].T @ blocks[task].x[b]).flatten()
    monkeypatch.setattr(products, "_CHUNK", 20)
    for way in ("_add_one_by_one", "_add_by_frames", "_add_in_chunks"):
        sums = getattr(products.Products(batch), way)(blocks)
        torch.testing.assert_close(sums, expected)
