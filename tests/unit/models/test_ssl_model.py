# SPDX-License-Identifier: Apache-2.0
"""Self-supervision as an objective of the model."""

import math
from dataclasses import replace

import pytest
import torch
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.asr.frontend.fused import FusedFrontends

from espnet_objsoup.models.feature_lengths import feature_lengths
from espnet_objsoup.models.objsoup_model import ESPnetObjSoupModel
from espnet_objsoup.models.ssl import CPC, BestRQ, measure_subsampling

from .model_factory import (
    MIXED,
    N_MELS,
    OBJECTIVES,
    TOKENS,
    make_batch,
    make_model,
    make_ssl_head,
    make_ssl_model,
)

KINDS = ["cpc", "best_rq"]
# Transcript and translation; only a transcript; nothing; too short for any self-supervision.
ROWS = [("fr", "en", 3, 4), ("en", None, 4, 0), (None, None, 0, 0), ("fr", None, 1, 0)]
SECONDS = [1.0, 0.7, 0.9, 0.05]


def features_batch(lengths: list[int], dtype: torch.dtype = torch.float64) -> dict:
    generator = torch.Generator().manual_seed(0)
    speech = torch.randn(len(lengths), max(lengths), N_MELS, generator=generator, dtype=dtype)
    for row, n in enumerate(lengths):
        speech[row, n:] = 0.0
    none = torch.full((len(lengths), 1), -1)
    return {
        "speech": speech,
        "speech_lengths": torch.tensor(lengths),
        "lang": none,
        "tgt_lang": none,
    }


def without_frontend(kind: str, **options) -> ESPnetObjSoupModel:
    model = make_ssl_model(kind, **options).double()
    model.frontend = None
    return model


def ssl_losses(model: ESPnetObjSoupModel, batch: dict) -> torch.Tensor:
    return model.ssl_head.losses(*model.encode_ssl(*model.features(batch)))


@pytest.mark.parametrize("kind", KINDS)
def test_unlabelled_utterances_count_only_in_ssl(kind: str) -> None:
    model = make_ssl_model(kind)
    batch = make_batch(ROWS, seconds=SECONDS)
    index = model.objective_index(batch)
    k = OBJECTIVES.index
    assert index["asr"].tolist() == [k("asr/fr"), k("asr/en"), -1, k("asr/fr")]
    assert index["st"].tolist() == [k("st/fr-en"), -1, -1, -1]
    assert index["ssl"].tolist() == [5, 5, 5, -1]
    assert model.label_masks(batch)["ssl"].tolist() == [True, True, True, False]
    out = model(**batch)
    assert list(out["losses"]) == list(out["counts"]) == [*OBJECTIVES, "ssl"]
    assert [int(n) for n in out["counts"].values()] == [0, 1, 2, 0, 1, 3]
    assert out["stats"]["loss_ssl"] == out["losses"]["ssl"] > 0
    assert 0.0 <= out["stats"]["acc_ssl"] <= 1.0
    assert model.objectives[-1] == "ssl"
    assert list(model.heads) == ["asr", "st"]


@pytest.mark.parametrize("kind", KINDS)
def test_forward_is_the_parts_that_an_engine_calls(kind: str) -> None:
    model = make_ssl_model(kind, objective_weights={"ssl": 0.5}).eval()
    batch = make_batch(MIXED)
    losses = ssl_losses(model, batch)
    assert losses.shape == (4,)
    out = model(**batch)
    assert torch.allclose(out["losses"]["ssl"], losses.mean())
    supervised = model.head_losses(*model.encode(batch), batch)
    assert set(supervised) == {"asr", "st"}
    total = supervised["asr"].sum() + supervised["st"].sum() + 0.5 * losses.sum()
    assert torch.allclose(out["loss"], total / 4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_between_passes_and_heads_scales_rows_of_a_task(kind: str) -> None:
    model = make_ssl_model(kind).eval()
    batch = make_batch(MIXED)
    inputs = model.task_inputs(batch)
    assert set(inputs) == {"asr", "st", "ssl"}
    assert inputs["asr"].h is inputs["st"].h
    h = {task: value.h.detach().requires_grad_() for task, value in inputs.items()}
    cut = {task: replace(value, h=h[task]) for task, value in inputs.items()}
    outputs = model.task_outputs(cut, batch)
    sum(output.losses.sum() for output in outputs.values()).backward()
    assert torch.equal(outputs["ssl"].losses, model.ssl_head.losses(**vars(inputs["ssl"])))
    for task, index in model.objective_index(batch).items():
        reached = h[task].grad.abs().sum((1, 2)) > 0
        assert torch.equal(reached, index >= 0), task


@pytest.mark.parametrize("kind", KINDS)
def test_supervised_losses_are_as_without_self_supervision(kind: str) -> None:

    batch = make_batch(MIXED)
    plain = make_model().eval()(**batch)["losses"]
    both = make_ssl_model(kind).eval()(**batch)["losses"]
    assert all(torch.equal(plain[name], both[name]) for name in OBJECTIVES)


def test_the_context_shows_nothing_of_the_answer() -> None:
    model = without_frontend("cpc").train()
    batch = features_batch([90, 45, 60])
    batch["speech"].requires_grad_()
    h, lengths, _ = model.encode_ssl(*model.features(batch))
    valid = torch.arange(h.size(1)) < lengths[:, None]
    h[valid].square().sum().backward()
    for row, cut in enumerate([60, 30, 40]):
        gradient = batch["speech"].grad[row].abs().sum(1)
        assert gradient[cut:].max() == 0
        assert gradient[: cut - 3].min() > 0
    # Utterance normalisation too, and what lies in the padding of a shorter context.
    changed = {**batch, "speech": batch["speech"].detach().clone()}
    for row, cut in enumerate([60, 30, 40]):
        changed["speech"][row, cut:] += 100.0
    assert torch.equal(model.encode_ssl(*model.features(changed))[0], h)


def test_masked_frames_do_not_reach_the_encoder() -> None:
    model = without_frontend("best_rq").eval()
    batch = features_batch([80, 60])
    h, _, context = model.encode_ssl(*model.features(batch))
    frames = context.masked.repeat_interleave(2, dim=1)
    changed = batch["speech"].clone()
    changed[:, : frames.size(1)][frames] += 10.0
    batch["speech"] = changed
    assert torch.equal(model.encode_ssl(*model.features(batch))[0], h)


@pytest.mark.parametrize("kind", KINDS)
def test_utterance_in_a_batch_equals_utterance_alone(kind: str) -> None:
    model = without_frontend(kind).eval()
    lengths = [90, 31, 5, 64]
    batch = features_batch(lengths)
    together = ssl_losses(model, batch)
    assert together[2] == 0.0
    assert (together[[0, 1, 3]] > 0).all()
    for row, n in enumerate(lengths):
        single = {name: value[row : row + 1] for name, value in batch.items()}
        single["speech"] = single["speech"][:, :n]
        assert torch.allclose(ssl_losses(model, single)[0], together[row], rtol=1e-6), row


@pytest.mark.parametrize("kind", KINDS)
def test_utterances_do_not_mix(kind: str) -> None:
    model = without_frontend(kind).train()
    batch = features_batch([60, 50, 70])
    batch["speech"].requires_grad_()
    ssl_losses(model, batch)[1].backward()
    assert batch["speech"].grad[[0, 2]].abs().max() == 0
    assert batch["speech"].grad[1].abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_validation_repeats_itself_and_leaves_the_generator_alone(kind: str) -> None:
    model = make_ssl_model(kind).eval()
    batch = make_batch(MIXED, seconds=[1.0, 0.8, 0.9, 1.1])
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = model(**batch)["losses"]["ssl"]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert torch.equal(model(**batch)["losses"]["ssl"], first)
    model.train()
    drawn = [model(**batch)["losses"]["ssl"].item() for _ in range(2)]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [[0.05], [0.04, 0.05], [0.3]], ids=["one", "short", "usable"])
def test_batch_without_use_or_label_keeps_all_parameters_in_the_graph(
    kind: str, seconds: list[float]
) -> None:
    model = make_ssl_model(kind)
    out = model(**make_batch([(None, None, 0, 0)] * len(seconds), seconds=seconds))
    usable = seconds == [0.3]
    assert int(out["counts"]["ssl"]) == int(usable)
    assert (out["loss"].item() > 0) is usable
    assert out["stats"]["loss_ssl"].isnan().item() is not usable
    out["loss"].sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_shared_parameters_are_without_the_head(kind: str) -> None:
    model = make_ssl_model(kind)
    names = {id(p): n for n, p in model.named_parameters()}
    assert all(names[id(p)].startswith("encoder") for p in model.shared_parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_inference_and_statistics_run_no_second_pass(kind: str, monkeypatch) -> None:
    model = make_ssl_model(kind).eval()

    def never(*_: object) -> None:
        raise AssertionError("self-supervised pass")

    monkeypatch.setattr(model, "encode_ssl", never)
    monkeypatch.setattr(model.ssl_head, "prepare", never)
    batch = make_batch(MIXED)
    model.encode(batch)
    model.collect_feats(**batch)
    model.objective_index(batch)


@pytest.mark.parametrize("kind", KINDS)
def test_without_any_supervised_objective(kind: str) -> None:
    whole = make_ssl_model(kind)
    model = ESPnetObjSoupModel(
        TOKENS, [], ["ssl"], whole.frontend, None, None, None, whole.encoder, None, None,
        ssl_head=whole.ssl_head,
    )  # fmt: skip
    batch = make_batch(MIXED)
    batch = {name: batch[name] for name in ("speech", "speech_lengths")}
    batch["lang"] = torch.full((4, 1), -1)
    out = model(**batch)
    assert list(out["losses"]) == ["ssl"]
    assert int(out["counts"]["ssl"]) == 4
    assert model.loss_mode == "token"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("encoder_class", "input_layer"),
    [
        (EBranchformerEncoder, "conv2d"),
        (TransformerEncoder, "conv2d"),
        (TransformerEncoder, "linear"),
        (ConformerEncoder, "conv2d2"),
    ],
)
def test_encoders_under_autocast(kind: str, encoder_class: type, input_layer: str) -> None:
    torch.manual_seed(0)
    conf = {"output_size": 16, "attention_heads": 2, "linear_units": 16, "num_blocks": 1}
    encoder = encoder_class(N_MELS, input_layer=input_layer, **conf)
    subsampling = measure_subsampling(encoder, None, N_MELS)
    head_class = {"cpc": CPC, "best_rq": BestRQ}[kind]
    model = make_ssl_model(kind)
    model.encoder, model.ssl_head = encoder, head_class(N_MELS, 16, subsampling)
    batch = make_batch(MIXED, seconds=[1.0, 0.8, 0.9, 0.06])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = ssl_losses(model, batch)
        out = model(**batch)
    assert losses.dtype == torch.float32
    assert losses.isfinite().all()
    assert out["loss"].isfinite().all()
    out["loss"].sum().backward()
    assert all(p.grad.isfinite().all() for p in model.ssl_head.parameters())


def test_lengths_of_front_ends_without_running_them() -> None:
    speech, lengths = torch.randn(3, 16000), torch.tensor([16000, 9999, 700])
    frontend = DefaultFrontend(n_fft=512, win_length=400, hop_length=160)
    assert torch.equal(feature_lengths(frontend, speech, lengths), frontend(speech, lengths)[1])
    fused = FusedFrontends([{"frontend_type": "default", "hop_length": 160}], proj_dim=20)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert torch.equal(feature_lengths(fused, speech, lengths), fused(speech, lengths)[1])
    assert torch.equal(torch.get_rng_state(), state)
    assert feature_lengths(None, speech, lengths) is lengths


def test_head_and_objective_belong_together() -> None:

    with pytest.raises(ValueError, match="if and only if ssl is an objective, found none"):
        make_model(objectives=[*OBJECTIVES, "ssl"])
    with pytest.raises(ValueError, match="found one and objectives"):
        make_model(ssl_head=make_ssl_head("cpc"))
    with pytest.raises(ValueError, match="ssl: cpc or ssl: best_rq"):
        make_model().encode_ssl(torch.zeros(1, 50, N_MELS), torch.tensor([50]))


def _signal(predictable: bool, generator: torch.Generator) -> dict:
    """Eight utterances: a tour of 12 fixed frames from a random start, or noise."""
    batch = features_batch([72] * 8, torch.float32)
    if predictable:
        tour = torch.randn(12, N_MELS, generator=torch.Generator().manual_seed(1))
        starts = torch.randint(12, (8, 1), generator=generator)
        batch["speech"] = tour[(starts + torch.arange(72) // 2) % 12]
    else:
        batch["speech"] = torch.randn(8, 72, N_MELS, generator=generator)
    return batch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("predictable", [True, False], ids=["tour", "noise"])
def test_only_what_can_be_predicted_is_learnt(kind: str, predictable: bool) -> None:
    model = make_ssl_model(kind, ssl_conf={"gap_frames": 0} if kind == "cpc" else {}).train()
    model.frontend = None
    generator = torch.Generator().manual_seed(2)
    parameters = [*model.encoder.parameters(), *model.ssl_head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    losses = []
    for _ in range(120):
        loss = ssl_losses(model, _signal(predictable, generator)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    last = sum(losses[-10:]) / 10
    chance = math.log(6) if kind == "cpc" else math.log(32)
    if predictable:
        assert last < 0.5 * chance
    else:
        assert last > 0.85 * chance
