# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_objsoup.models.task_head import TaskHead

from .model_factory import MIXED, OBJECTIVES, TOKENS, make_batch, make_ctc, make_model


def select(batch: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    return {name: value[row : row + 1] for name, value in batch.items()}


def without_frontend(model, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Features in place of waveforms.

    The frontend's centred STFT sees an utterance's padding in its last frame (ESPnet's behaviour),
    which is not what is tested here.
    """
    dtype = next(model.parameters()).dtype
    lengths = batch["speech_lengths"] // 160
    features = torch.randn(len(lengths), int(lengths.max()), 20, dtype=dtype)
    model.frontend = None
    return {**batch, "speech": features, "speech_lengths": lengths}


def test_forward_is_encode_then_heads() -> None:
    model = make_model()
    batch = make_batch(MIXED)
    h, lengths = model.encode(batch)
    per_utterance = model.head_losses(h, lengths, batch)
    out = model(**batch)
    asr, st = per_utterance["asr"], per_utterance["st"]
    assert torch.allclose(out["losses"]["asr/fr"], (asr[0] + asr[3]) / 2)
    assert torch.allclose(out["losses"]["st/de-en"], st[1])
    assert list(out["losses"]) == list(out["counts"]) == OBJECTIVES
    assert [int(c) for c in out["counts"].values()] == [1, 1, 2, 1, 1]
    assert torch.allclose(out["loss"], (asr.sum() + st.sum()) / 4)
    assert out["weight"].item() == 4


def test_rows_without_label_are_zero_and_send_no_gradient() -> None:
    model = make_model()
    batch = make_batch(MIXED)
    h, lengths = model.encode(batch)
    h = h.detach().requires_grad_()
    losses = model.head_losses(h, lengths, batch)["st"]
    assert losses[2:].tolist() == [0.0, 0.0]
    assert model.label_masks(batch)["st"].tolist() == [True, True, False, False]
    losses.sum().backward()
    assert h.grad[2:].abs().max() == 0
    assert h.grad[:2].abs().sum() > 0


@pytest.mark.parametrize("loss_mode", ["token", "espnet"])
def test_batch_of_unequal_lengths_equals_one_by_one(loss_mode: str) -> None:
    model = make_model(loss_mode=loss_mode).double()
    batch = without_frontend(model, make_batch(MIXED, seconds=[1.3, 0.3, 0.7, 0.5]))
    h, lengths = model.encode(batch)
    together = model.head_losses(h, lengths, batch)
    for row in range(len(MIXED)):
        single = select(batch, row)
        single["speech"] = single["speech"][:, : int(single["speech_lengths"])]
        alone = model.head_losses(*model.encode(single), single)
        for task in ("asr", "st"):
            assert torch.allclose(together[task][row], alone[task][0], rtol=1e-5), (task, row)


def test_utterances_do_not_mix() -> None:
    model = make_model().train()
    batch = make_batch(MIXED)
    speech = batch["speech"].clone().requires_grad_()
    h, lengths = model.encode({**batch, "speech": speech})
    model.head_losses(h, lengths, batch)["asr"][1].backward()
    others = [0, 2, 3]
    assert speech.grad[others].abs().max() == 0
    assert speech.grad[1].abs().max() > 0


@pytest.mark.parametrize("task", ["asr", "st"])
def test_task_absent_from_a_batch_is_finite_and_keeps_all_parameters_in_the_graph(
    task: str,
) -> None:
    rows = [("fr", "en", 0, 3)] if task == "asr" else [("fr", None, 3, 0)]
    model = make_model()
    out = model(**make_batch(rows))
    assert out["loss"].isfinite().all()
    assert out["stats"][f"loss_{task}"].isnan().all()
    out["loss"].sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_batch_without_any_language_has_zero_loss() -> None:
    batch = make_batch(MIXED)
    batch["lang"] = torch.full_like(batch["lang"], -1)
    model = make_model()
    out = model(**batch)
    assert out["loss"].item() == 0.0
    assert all(int(count) == 0 for count in out["counts"].values())
    # A process with such a batch still takes part in the reduction of all gradients.
    out["loss"].sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in model.parameters())


def test_mean_over_a_data_set_does_not_depend_on_batching() -> None:
    model = make_model(objective_weights={"asr/fr": 3.0, "st/fr-en": 0.5}).eval()
    batch = without_frontend(model, make_batch(MIXED))
    whole = model(**batch)["loss"].item()
    parts = [model(**select(batch, row))["loss"].item() for row in range(len(MIXED))]
    assert whole == pytest.approx(sum(parts) / len(MIXED), rel=1e-4)


def test_attention_loss_is_the_cross_entropy_after_the_prompt() -> None:
    model = make_model(ctc_weight=0.0).eval()
    batch = make_batch([("fr", "en", 0, 2)])
    h, lengths = model.encode(batch)
    first, second = batch["st_text"][0].tolist()
    prompt = model.prompt("st", "fr", "en")
    assert [TOKENS[i] for i in prompt] == ["<sos/eos>", "<fr>", "<en>"]
    decoder_input = torch.tensor([[*prompt, first, second]])
    logits, _ = model.st_head.decoder(h, lengths, decoder_input, torch.tensor([5]))
    log_p = logits[0].log_softmax(-1)
    expected = 0.0
    for position, token in ((2, first), (3, second), (4, model.eos)):
        expected -= 0.9 * log_p[position, token] + 0.1 * log_p[position].mean()
    actual = model.head_losses(h, lengths, batch)["st"]
    assert torch.allclose(actual, expected[None] / 3, rtol=1e-5)


def test_ctc_loss_is_per_token_and_says_when_it_is_infeasible() -> None:
    head = TaskHead(None, make_ctc(), 1.0)
    h = torch.randn(2, 12, 16)
    targets = torch.tensor([[5, 6, 7], [8, 8, -1]])
    target_lengths = torch.tensor([3, 2])
    prompts = torch.zeros(2, 2, dtype=torch.long)
    lengths = torch.tensor([12, 2])  # 8 8 needs a blank in between: 3 frames
    out = head(h, lengths, prompts, targets, target_lengths)
    log_p = head.ctc.log_softmax(h).transpose(0, 1)
    # torch's mean reduction divides by the target length, as the token mode does.
    one = torch.nn.functional.ctc_loss(log_p[:, :1], targets[:1], lengths[:1], target_lengths[:1])
    assert torch.allclose(out.losses[0], one, rtol=1e-5)
    assert out.infeasible_ctc.tolist() == [False, True]
    assert out.losses[1] == 0.0


def test_shared_decoder_is_one_module() -> None:
    model = make_model(shared_decoder=True)
    assert model.asr_head.decoder is model.st_head.decoder
    model(**make_batch(MIXED))["loss"].sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_shared_parameters_are_those_before_the_heads() -> None:
    model = make_model()
    names = {id(p): n for n, p in model.named_parameters()}
    shared = {names[id(p)] for p in model.shared_parameters()}
    assert shared
    assert all(not n.startswith(("asr_head", "st_head")) for n in shared)
    assert all(n.startswith("encoder") for n in shared)


def test_prompt_names_what_exists() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="de, en, fr"):
        model.prompt("asr", "zh")
    with pytest.raises(ValueError, match="'asr' or 'st'"):
        model.prompt("mt", "fr")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, make_ctc(), 0.3), "ctc_weight to 1.0"),
        ((None, None, 1.0), "no CTC layer"),
        ((None, make_ctc(), 1.5), r"\[0, 1\]"),
        ((None, make_ctc(), 1.0, 0.0, "mean"), "loss_mode"),
    ],
)
def test_contradicting_head_options_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskHead(*arguments)


def test_features_are_those_of_float32_under_autocast() -> None:
    """In half precision the mel filters' sums overflow, or keep eight bits of a spectrum."""
    model = make_model()
    batch = make_batch(MIXED)
    expected, _ = model.features(batch)
    with torch.autocast("cpu", torch.bfloat16):
        features, _ = model.features(batch)
        assert model(**batch)["loss"].isfinite().all()
    assert features.dtype == torch.float32
    assert torch.equal(features, expected)
