# SPDX-License-Identifier: Apache-2.0
"""The grouped engine against autograd, utterance by utterance."""

import logging

import pytest
import torch
from espnet2.asr.encoder.branchformer_encoder import BranchformerEncoder
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from torch import Tensor, nn

from espnet_objsoup.gradients import products
from espnet_objsoup.gradients.engine import MeasureError, ReferenceEngine, TaskLosses
from espnet_objsoup.gradients.grouped import GroupedEngine
from espnet_objsoup.gradients.layers import Layer, find_layers
from espnet_objsoup.gradients.rules import Rows, rule_of
from espnet_objsoup.models.objsoup_model import ESPnetObjSoupModel

from ..models.model_factory import N_MELS, SIZE, make_model, make_ssl_model
from .test_reference import ROWS, SECONDS, double_batch

COMMON = {
    "input_size": N_MELS,
    "output_size": SIZE,
    "attention_heads": 2,
    "num_blocks": 2,
    "dropout_rate": 0.1,
    "positional_dropout_rate": 0.0,
    "attention_dropout_rate": 0.1,
}
CGMLP = {"cgmlp_linear_units": 32, "cgmlp_conv_kernel": 3, "rel_pos_type": "latest"}
ENCODERS = {
    "e_branchformer": lambda: EBranchformerEncoder(
        **COMMON, **CGMLP, linear_units=32, input_layer="conv2d", use_ffn=True, macaron_ffn=True
    ),
    "e_branchformer_linear_gate": lambda: EBranchformerEncoder(
        **COMMON, **CGMLP, input_layer="conv1d2", use_linear_after_conv=True, merge_conv_kernel=5
    ),
    "branchformer": lambda: BranchformerEncoder(
        **COMMON, **CGMLP, merge_method="learned_ave", input_layer="conv2d"
    ),
    "transformer": lambda: TransformerEncoder(**COMMON, linear_units=32, input_layer="conv2d"),
    "transformer_conv1d": lambda: TransformerEncoder(
        **COMMON, linear_units=32, input_layer="conv2d", positionwise_layer_type="conv1d"
    ),
    "conformer": lambda: ConformerEncoder(
        **COMMON, linear_units=32, cnn_module_kernel=3, rel_pos_type="latest", macaron_style=True
    ),
}


def with_encoder(name: str, kind: str | None = None) -> ESPnetObjSoupModel:
    torch.manual_seed(0)
    model = make_ssl_model(kind) if kind else make_model()
    if name != "default":
        model.encoder = ENCODERS[name]()
    # Away from the initial zeros and ones of norms and gates.
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.double()


def both(
    model: ESPnetObjSoupModel,
    batch: dict,
    layers: list[Layer] | None = None,
    unbiased: bool = True,
) -> tuple[Tensor, Tensor]:
    """Numerators (N, K, K) of the grouped engine and of the reference, from one forward pass."""
    layers = layers or find_layers(model, model.shared_parameters())
    chosen = list(range(len(layers)))
    k = len(model.objectives)
    engine = GroupedEngine(layers, k, unbiased=unbiased)
    with engine.recording(chosen):
        out = model(**batch)
    losses = TaskLosses(out["utterance_losses"], out["objective_index"])
    found = engine.measure(losses, chosen)
    expected = ReferenceEngine(layers, k, unbiased).measure(losses, chosen)
    torch.testing.assert_close(found.pairs, expected.pairs)
    torch.testing.assert_close(found.mean_norms2, expected.mean_norms2, rtol=1e-6, atol=1e-12)
    return found.numerators, expected.numerators


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))


@pytest.fixture(params=["one_by_one", "by_frames", "in_chunks"])
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All ways in which products are formed; the last two are a GPU's."""
    if request.param != "one_by_one":
        way = getattr(products.Products, f"_add_{request.param}")
        monkeypatch.setattr(products.Products, "_add_one_by_one", way)
        monkeypatch.setattr(products, "_CHUNK", 5000)
    return request.param


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "conformer"] + ["default"])
def test_engine_is_autograd_for_every_encoder(name: str, method: str) -> None:
    model = with_encoder(name).train()
    batch = double_batch(ROWS, [1.5 * s for s in SECONDS])
    assert_close(*both(model, batch))


@pytest.mark.parametrize("kind", ["cpc", "best_rq"])
def test_engine_is_autograd_with_two_encoder_passes(kind: str, method: str) -> None:
    model = with_encoder("default", kind).train()
    rows = [*ROWS, (None, None, 0, 0)]  # unlabelled: in ssl only
    assert_close(*both(model, double_batch(rows, [*SECONDS, 0.9])))


def test_engine_is_autograd_with_the_batch_estimate() -> None:
    model = with_encoder("default").train()
    assert_close(*both(model, double_batch(ROWS, SECONDS), unbiased=False))


@pytest.mark.parametrize("name", ["default", "transformer"])
def test_engine_is_autograd_for_every_module(name: str) -> None:
    """Each module with parameters as a layer of its own: errors cannot cancel."""
    model = with_encoder(name).train()
    shared = {id(p) for p in model.shared_parameters()}
    layers = []
    for path, module in model.encoder.encoders.named_modules():
        own = tuple(p for p in module.parameters(recurse=False) if id(p) in shared)
        if own and "linear_pos" not in path:
            layers.append(Layer(path, module, own))
    assert len(layers) >= 16
    found, expected = both(model, double_batch(ROWS, SECONDS), layers)
    for n, layer in enumerate(layers):
        scale = float(expected[n].abs().max())
        torch.testing.assert_close(
            found[n],
            expected[n],
            rtol=1e-6,
            atol=1e-8 * scale + 1e-18,
            msg=lambda text, name=layer.name: f"{name}: {text}",
        )


def test_conformer_in_evaluation_mode_and_its_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Statistics of the batch are taken as constant, which in evaluation mode they are."""
    model = with_encoder("conformer").eval()
    with caplog.at_level(logging.WARNING):
        assert_close(*both(model, double_batch(ROWS, [1.5 * s for s in SECONDS])))
    assert "conv_module.norm" in caplog.text
    assert "mix utterances of a batch" in caplog.text


def test_gradients_of_the_step_are_not_disturbed() -> None:
    model = with_encoder("default").train()
    batch = double_batch(ROWS, SECONDS)
    layers = find_layers(model, model.shared_parameters())

    def gradients(measured: bool) -> list[Tensor]:
        torch.manual_seed(4)  # dropout
        model.zero_grad()
        engine = GroupedEngine(layers, 5)
        chosen = [0, 1] if measured else []
        with engine.recording(chosen):
            out = model(**batch)
        if measured:
            engine.measure(TaskLosses(out["utterance_losses"], out["objective_index"]), chosen)
        out["loss"].backward()
        return [p.grad.clone() for p in model.parameters()]

    for with_measuring, without in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(with_measuring, without, rtol=1e-12, atol=1e-15)
    # Stand-ins for parameters are gone again.
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())
    assert set(model.state_dict()) == set(with_encoder("default").state_dict())


class Gate(nn.Module):
    """A module without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((SIZE,), 1.2))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def test_module_without_a_rule_falls_back_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    model = with_encoder("default")
    block = model.encoder.encoders[1]
    block.norm_final = nn.Sequential(block.norm_final, Gate().double())
    with caplog.at_level(logging.WARNING):
        assert_close(*both(model, double_batch(ROWS, SECONDS)))
    assert "encoder.encoders.1.norm_final.1.scale (Gate)" in caplog.text


def test_output_changed_in_place_is_refused() -> None:
    model = with_encoder("default")
    layers = find_layers(model, model.shared_parameters(), "encoder.embed")
    with pytest.raises(MeasureError, match="Conv1d is changed in place afterwards"):
        both(model, double_batch(ROWS, SECONDS), layers)


def test_forward_pass_without_recording_is_refused() -> None:
    model = with_encoder("default")
    layers = find_layers(model, model.shared_parameters())
    engine = GroupedEngine(layers, 5)
    out = model(**double_batch(ROWS, SECONDS))
    with pytest.raises(MeasureError, match=r"expected calls of encoder.encoders.1 in the forward"):
        engine.measure(TaskLosses(out["utterance_losses"], out["objective_index"]), [1])


def test_activation_checkpointing() -> None:
    model = with_encoder("default").train()
    batch = double_batch(ROWS, SECONDS)
    layers = find_layers(model, model.shared_parameters())
    plain = both(model, batch)[0]
    model.encoder.gradient_checkpoint_layers = [0, 1]
    engine = GroupedEngine(layers, 5)
    with engine.recording([0, 1]):
        out = model(**batch)
    losses = TaskLosses(out["utterance_losses"], out["objective_index"])
    found = engine.measure(losses, [0, 1])
    torch.testing.assert_close(found.numerators, plain, rtol=1e-9, atol=1e-15)


def test_bfloat16_is_measured_in_single_precision() -> None:
    model = with_encoder("default").float().eval()
    batch = double_batch(ROWS, SECONDS)
    batch["speech"] = batch["speech"].float()
    layers = find_layers(model, model.shared_parameters())
    engine = GroupedEngine(layers, 5)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), engine.recording([0, 1]):
            out = model(**batch)
        losses = TaskLosses(out["utterance_losses"], out["objective_index"])
        found.append(engine.measure(losses, [0, 1]).numerators)
    assert found[1].isfinite().all()
    scale = found[0].abs().max()
    assert (found[1] - found[0]).abs().max() < 0.05 * scale


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv1d(4, 6, 3, stride=2, padding=1),
        nn.Conv1d(4, 6, 3, dilation=2),
        nn.Conv1d(4, 6, 1, bias=False),
        nn.Conv1d(4, 8, 5, stride=3, padding=2, groups=4),
        nn.Conv1d(4, 4, 3, dilation=2, padding=2, groups=4),
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0)),
        nn.LayerNorm(11),
        nn.Linear(11, 3),
    ],
    ids=str,
)
def test_rules_of_modules_alone(module: nn.Module) -> None:
    """A rule's blocks are the gradients of one utterance at a time."""
    module = module.double()
    shape = (3, 4, 9, 11) if isinstance(module, nn.Conv2d) else (3, 4, 11)
    x = torch.randn(*shape, dtype=torch.float64)
    y = module(x)
    g = torch.randn_like(y)
    found = []
    for block in rule_of(module)(module, x, g):
        written = block.values if isinstance(block, Rows) else block.g.transpose(1, 2) @ block.x
        found.append(written.flatten(1))
    for b in range(3):
        expected = torch.autograd.grad((y[b] * g[b]).sum(), module.parameters(), retain_graph=True)
        for block, value in zip(found, expected, strict=True):
            torch.testing.assert_close(block[b], value.flatten(), rtol=1e-9, atol=1e-12)


def test_embedding_rule() -> None:
    module = nn.Embedding(5, 3, padding_idx=0).double()
    x = torch.tensor([[1, 2, 2, 0], [4, 0, 0, 1]])
    y = module(x)
    g = torch.randn_like(y)
    (block,) = rule_of(module)(module, x, g)
    for b in range(2):
        (expected,) = torch.autograd.grad((y[b] * g[b]).sum(), module.weight, retain_graph=True)
        torch.testing.assert_close(block.g[b].T @ block.x[b], expected)


def test_convolutions_without_a_rule() -> None:
    assert rule_of(nn.Conv1d(4, 4, 3, padding=1, padding_mode="reflect")) is None
    assert rule_of(nn.Conv1d(4, 4, 3, groups=2)) is None
    assert rule_of(nn.GRU(4, 4)) is None
