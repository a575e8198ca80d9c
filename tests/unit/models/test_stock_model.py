# SPDX-License-Identifier: Apache-2.0
"""Objectives of ESPnet's own models, against the models themselves."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from espnet_objsoup.gradients.layers import find_layers
from espnet_objsoup.gradients.reference import reference_statistic
from espnet_objsoup.models.gradient_scale import GradientScale
from espnet_objsoup.models.stock import StockObjectives

from ..tasks.stock import CONFIG, S2T_TOKENS, build, make_data

NO_DROPOUT = {
    name: {
        key: 0.0
        for key in (
            "dropout_rate",
            "positional_dropout_rate",
            *(["attention_dropout_rate"] if name == "encoder_conf" else []),
            *(
                ["self_attention_dropout_rate", "src_attention_dropout_rate"]
                if name != "encoder_conf"
                else []
            ),
        )
    }
    for name in ("encoder_conf", "decoder_conf")
}
NA = S2T_TOKENS.index("<na>")
N_FEATURES = 20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def exact(task: str, data: Path, directory: Path, **changes: Any) -> torch.nn.Module:
    """A model without anything random, on features: a spectrum's last frame sees the padding."""
    conf = {**NO_DROPOUT, "specaug": None, "specaug_conf": {}, "input_size": N_FEATURES, **changes}
    if task == "st":
        conf.setdefault("extra_asr_decoder_conf", NO_DROPOUT["decoder_conf"])
    return build(task, data, directory, **conf).train()


def padded(rows: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)


def make_batch(task: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    lengths = torch.tensor([60, 90, 50, 70, 80])
    size = len(lengths)
    speech = torch.zeros(size, int(lengths.max()), N_FEATURES, dtype=torch.float64)
    for row, length in zip(speech, lengths, strict=True):
        row[:length] = torch.randn(int(length), N_FEATURES, generator=generator)
    batch = {"speech": speech, "speech_lengths": lengths}
    names = {"asr": ["text"], "st": ["text", "src_text"], "s2t": ["text", "text_prev", "text_ctc"]}
    for name in names[task]:
        n_tokens = torch.randint(2, 6, (size,), generator=generator)
        rows = [torch.randint(3, 11, (int(n),), generator=generator) for n in n_tokens]
        if name in ("text_prev", "text_ctc"):
            rows[1] = torch.tensor([NA])
        batch[name] = padded(rows)
        batch[f"{name}_lengths"] = torch.tensor([len(row) for row in rows])
    return batch


def clone(batch: dict[str, Tensor], row: int | None = None) -> dict[str, Tensor]:
    """A copy (models change texts in place), of one utterance alone if asked for."""
    if row is None:
        return {name: value.clone() for name, value in batch.items()}
    single = {}
    for name, value in batch.items():
        single[name] = value[row : row + 1].clone()
    for name in [name for name in batch if f"{name}_lengths" in batch]:
        single[name] = single[name][:, : int(batch[f"{name}_lengths"][row])]
    return single


# Options -> those that leave one objective in ESPnet's own loss.
ALONE = {
    "asr": {"asr/ctc": {"ctc_weight": 1.0}, "asr/att": {"ctc_weight": 0.0}},
    "s2t": {"s2t/ctc": {"ctc_weight": 1.0}, "s2t/att": {"ctc_weight": 0.0}},
    "st": {
        "asr/ctc": {"asr_weight": 1.0, "mtlalpha": 1.0},
        "asr/att": {"asr_weight": 1.0, "mtlalpha": 0.0},
        "st/ctc": {"asr_weight": 0.0, "st_mtlalpha": 1.0},
        "st/att": {"asr_weight": 0.0, "st_mtlalpha": 0.0},
    },
}


def espnet_loss(model: torch.nn.Module, task: str, name: str, batch: dict) -> Tensor:
    """One objective by ESPnet's own forward, its weights turned to that objective."""
    before = {key: getattr(model, key) for key in ALONE[task][name]}
    for key, value in ALONE[task][name].items():
        setattr(model, key, value)
    loss, _, _ = model(**clone(batch))
    for key, value in before.items():
        setattr(model, key, value)
    return loss[0]


def check_stand_ins(model: torch.nn.Module, output: dict, *names: str) -> None:
    """The gradient of the batch's loss is the mean of the utterances' gradients."""
    shared = StockObjectives(model).shared_parameters()
    for name in names:
        stand_ins, loss = output["utterance_losses"][name], output["losses"][name]
        n_present = (output["objective_index"][name] >= 0).sum()
        options = {"retain_graph": True, "materialize_grads": True}
        mean = torch.autograd.grad(stand_ins.sum() / n_present, shared, **options)
        expected = torch.autograd.grad(loss, shared, **options)
        # ESPnet computes CTC in single precision. Where the whole model is, sums over a batch and
        # over its utterances round differently, on one processor more than on another.
        single = shared[0].dtype == torch.float32
        atol = 3e-6 if single else 1e-7
        torch.testing.assert_close(mean, expected, rtol=1e-4 if single else 1e-5, atol=atol)
        assert max(part.abs().max() for part in mean) > 1e-3


@pytest.mark.parametrize("task", ALONE)
def test_losses_are_espnets(task: str, data: Path, tmp_path: Path) -> None:
    model = exact(task, data, tmp_path)
    batch = make_batch(task)
    own, _, _ = model(**clone(batch))
    expected = {name: espnet_loss(model, task, name, batch) for name in ALONE[task]}
    objectives = StockObjectives(model)
    assert list(objectives.objectives) == list(ALONE[task])
    with objectives.installed():
        objectives.measuring = True
        output = model(**clone(batch))
    assert torch.equal(output["loss"], own)
    for name, loss in expected.items():
        torch.testing.assert_close(output["losses"][name], loss, rtol=1e-12, atol=0)
        assert output["counts"][name] == 5
    check_stand_ins(model, output, *expected)
    for name in expected:
        missing = [1] if name == "s2t/ctc" else []  # utterance 1 has no text for CTC
        index = output["objective_index"][name]
        assert (index < 0).nonzero()[:, 0].tolist() == missing
        assert index.max() == list(expected).index(name)
    weighted = sum(objectives.weights[name] * loss for name, loss in expected.items())
    torch.testing.assert_close(weighted, own[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("task", ALONE)
def test_statistic_is_that_of_utterances_alone(task: str, data: Path, tmp_path: Path) -> None:
    """Every utterance through ESPnet's model by itself, and pairs written out."""
    model = exact(task, data, tmp_path)
    batch = make_batch(task)
    objectives = StockObjectives(model)
    layers = find_layers(model, objectives.shared_parameters())
    assert [layer.name for layer in layers] == ["encoder.encoders.0", "encoder.encoders.1"]
    parameters = layers[1].parameters
    gradients = {}
    for k, name in enumerate(objectives.objectives):
        for row in range(5):
            if name == "s2t/ctc" and row == 1:
                continue
            loss = espnet_loss(model, task, name, clone(batch, row))
            parts = torch.autograd.grad(loss, parameters)
            gradients[k, row] = torch.cat([part.reshape(-1) for part in parts])
    with objectives.installed():
        objectives.measuring = True
        output = model(**clone(batch))
    n = len(objectives.objectives)
    statistic = reference_statistic(
        output["utterance_losses"], output["objective_index"], [parameters], n
    )
    expected, pairs = torch.zeros(n, n).double(), torch.zeros(n, n).double()
    for (k, row), first in gradients.items():
        for (other, other_row), second in gradients.items():
            if row != other_row:
                expected[k, other] += first @ second
                pairs[k, other] += 1
    torch.testing.assert_close(statistic.numerators[0], expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(statistic.pairs, pairs)


@pytest.mark.parametrize("task", ALONE)
def test_coefficients_act_on_the_encoder_alone(task: str, data: Path, tmp_path: Path) -> None:
    model = exact(task, data, tmp_path)
    batch = make_batch(task)
    names = list(ALONE[task])
    shared = StockObjectives(model).shared_parameters()
    heads = [p for p in model.parameters() if id(p) not in {id(q) for q in shared}]
    factors = torch.linspace(0.5, 2.0, len(names)).double()
    losses = torch.stack([espnet_loss(model, task, name, batch) for name in names])
    of_encoder = torch.autograd.grad((factors * losses).sum(), shared, retain_graph=True)
    of_heads = torch.autograd.grad(losses.sum(), heads)
    objectives = StockObjectives(model)
    with objectives.installed():
        model.gradient_scale = GradientScale(factors)
        output = model(**clone(batch))
        model.gradient_scale.active = True
        torch.stack(list(output["losses"].values())).sum().backward()
    for parameter, gradient in zip([*shared, *heads], [*of_encoder, *of_heads], strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-7)
    assert len(heads) > 5


def test_nothing_is_left_behind(data: Path, tmp_path: Path) -> None:
    model = exact("st", data, tmp_path)
    before = dict(vars(model)), list(model.state_dict())
    with StockObjectives(model).installed():
        assert list(model.state_dict()) == before[1]
        model.eval()
        with torch.no_grad():
            assert isinstance(model(**make_batch("st")), tuple)  # validation is ESPnet's
        model.train()
    assert (dict(vars(model)), list(model.state_dict())) == before
    with pytest.raises(RuntimeError), StockObjectives(model).installed():
        raise RuntimeError
    assert dict(vars(model)) == before[0]


def test_measuring_draws_nothing(data: Path, tmp_path: Path) -> None:
    """With dropout: the step is the same, and the encoder's dropout is that of the step."""
    model = build("asr", data, tmp_path, input_size=N_FEATURES).train()
    outputs = []
    for measuring in (False, True):
        objectives = StockObjectives(model)
        with objectives.installed():
            objectives.measuring = measuring
            torch.manual_seed(7)
            outputs.append((model(**make_batch("asr")), torch.rand(3)))
    assert torch.equal(outputs[0][0]["loss"], outputs[1][0]["loss"])
    assert torch.equal(outputs[0][1], outputs[1][1])
    assert "utterance_losses" not in outputs[0][0]
    check_stand_ins(model, outputs[1][0], "asr/ctc", "asr/att")


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_losses_normalised_by_tokens(scale: float, data: Path, tmp_path: Path) -> None:
    """Every utterance counts by its tokens, as in the batch; the scale leaves no trace."""
    model = exact("asr", data, tmp_path, model_conf={"length_normalized_loss": True})
    objectives = StockObjectives(model)
    with objectives.installed():
        objectives.measuring, objectives.loss_scale = True, scale
        output = model(**make_batch("asr"))
    check_stand_ins(model, output, "asr/ctc", "asr/att")


def test_utterance_that_is_not_finite_is_found(data: Path, tmp_path: Path) -> None:
    model = exact("asr", data, tmp_path)
    batch = make_batch("asr")
    batch["speech"][2, 3, 4] = torch.nan
    objectives = StockObjectives(model)
    with objectives.installed():
        objectives.measuring = True
        output = model(**batch)
    finite = output["utterance_losses"]["asr/att"].isfinite()
    assert finite.tolist() == [True, True, False, True, True]
    assert output["losses"]["asr/att"].isnan()


def test_batch_without_text_for_ctc_has_no_such_objective(data: Path, tmp_path: Path) -> None:
    model = exact("s2t", data, tmp_path)
    batch = make_batch("s2t")
    batch["text_ctc"] = torch.full((5, 1), NA)
    batch["text_ctc_lengths"] = torch.ones(5, dtype=torch.long)
    objectives = StockObjectives(model)
    with objectives.installed():
        objectives.measuring = True
        output = model(**clone(batch))
    assert output["counts"] == {"s2t/ctc": 0, "s2t/att": 5}
    assert output["losses"]["s2t/ctc"] == 0.0
    assert output["objective_index"]["s2t/ctc"].tolist() == [-1] * 5


def test_second_encoder_for_translation(data: Path, tmp_path: Path) -> None:
    """It belongs to what lies before the heads, though recognition does not pass through it."""
    encoder = {**NO_DROPOUT["encoder_conf"], "output_size": 16, "num_blocks": 1}
    encoder |= {"linear_units": 16, "attention_heads": 2, "input_layer": None}
    model = exact("st", data, tmp_path, hier_encoder="transformer", hier_encoder_conf=encoder)
    own, _, _ = model(**make_batch("st"))
    objectives = StockObjectives(model)
    with objectives.installed():
        objectives.measuring = True
        output = model(**make_batch("st"))
    assert torch.equal(output["loss"], own)
    check_stand_ins(model, output, *ALONE["st"])
    shared = {id(parameter) for parameter in objectives.shared_parameters()}
    assert all(id(parameter) in shared for parameter in model.hier_encoder.parameters())


def test_lengths_that_the_model_changes_in_place(data: Path, tmp_path: Path) -> None:
    """A language token is put before every target, and lengths are counted up."""
    model = exact("asr", data, tmp_path, model_conf={"lang_token_id": 4})
    objectives = StockObjectives(model)
    own, _, _ = model(**make_batch("asr"))
    with objectives.installed():
        objectives.measuring = True
        output = model(**make_batch("asr"))
    assert torch.equal(output["loss"], own)
    check_stand_ins(model, output, "asr/att")


class RNNTLoss(torch.nn.Module):
    """Stands in for a package that is not installed; as strict about lengths as it is."""

    def __init__(self, blank: int, fastemit_lambda: float) -> None:
        super().__init__()

    def forward(self, joint: Tensor, target: Tensor, t_len: Tensor, u_len: Tensor) -> Tensor:
        assert joint.shape[1:3] == (int(t_len.max()), int(u_len.max()) + 1)
        rows = zip(joint.log_softmax(-1), t_len, u_len, strict=True)
        return -sum(row[:t, : u + 1, 0].sum() for row, t, u in rows) / len(t_len)


@pytest.mark.parametrize(("task", "name"), [("asr", "asr/transducer"), ("st", "st/transducer")])
def test_transducer(task, name, data, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "warprnnt_pytorch", SimpleNamespace(RNNTLoss=RNNTLoss))
    monkeypatch.setitem(CONFIG, "decoder_conf", {"hidden_size": 8})
    network = "joint_net_conf" if task == "asr" else "st_joint_net_conf"
    changes = {"decoder": "transducer", "decoder_conf": {}, network: {"joint_space_size": 8}}
    # The decoder's state is in single precision whatever the model's is.
    model = exact(task, data, tmp_path, **changes).float()
    batch = {**make_batch(task), "speech": make_batch(task)["speech"].float()}
    objectives = StockObjectives(model)
    own, _, _ = model(**clone(batch))
    with objectives.installed():
        objectives.measuring = True
        output = model(**clone(batch))
    check_stand_ins(model, output, name)
    weighted = sum(objectives.weights[key] * loss for key, loss in output["losses"].items())
    torch.testing.assert_close(weighted, own[0])


class TextEncoder(torch.nn.Module):
    """Returns two values, as ESPnet's ST model wants and only its mBART encoder does."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(20, size).double()

    def forward(self, text: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.embed(text.clamp(min=0)), lengths


def test_machine_translation_is_weighted_as_espnet_does(data: Path, tmp_path: Path) -> None:
    """The weight counts twice in ESPnet; the decoder is that of st/att."""
    model = exact("st", data, tmp_path, model_conf={"mt_weight": 0.3})
    model.extra_mt_encoder = TextEncoder(16)
    batch = make_batch("st")
    own, _, _ = model(**clone(batch))
    objectives = StockObjectives(model)
    with objectives.installed():
        output = model(**clone(batch))
    weighted = sum(objectives.weights[key] * loss for key, loss in output["losses"].items())
    torch.testing.assert_close(weighted, own[0], rtol=1e-12, atol=0)
    assert objectives.objectives_of_head["mt/att"] == objectives.objectives_of_head["st/att"] == 2
