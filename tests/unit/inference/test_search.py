# SPDX-License-Identifier: Apache-2.0
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from espnet_objsoup.inference import InferenceError, SearchOptions, Speech2Text, search

from ..experiment import TOKENS, make_experiment


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_experiment(tmp_path_factory.mktemp("exp"))


@pytest.fixture(scope="module")
def speech2text(experiment: Path) -> Speech2Text:
    options = SearchOptions(beam_size=3, ctc_weight=0.4, maxlenratio=0.5, minlenratio=0.2)
    return Speech2Text(experiment / "config.yaml", experiment / "model.pth", options=options)


@pytest.fixture(scope="module")
def speeches() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.standard_normal(n).astype(np.float32) for n in (8000, 16000, 11000)]


@pytest.mark.parametrize("task", ["asr", "st"])
def test_batch_equals_one_by_one(
    speech2text: Speech2Text, speeches: list[np.ndarray], task: str
) -> None:
    encoded = [speech2text.encode([speech]) for speech in speeches]
    lengths = torch.cat([one[1] for one in encoded])
    h = torch.nn.utils.rnn.pad_sequence([one[0][0] for one in encoded], batch_first=True)
    together = speech2text.search(h, lengths, task, ["fr"] * 3, ["en"] * 3, nbest=2)
    for (one, length), found in zip(encoded, together, strict=True):
        (alone,) = speech2text.search(one, length, task, ["fr"], ["en"], nbest=2)
        assert [r.token_ids for r in alone] == [r.token_ids for r in found]
        assert [r.score for r in alone] == pytest.approx([r.score for r in found], rel=1e-4)
    assert len({tuple(found[0].token_ids) for found in together}) > 1


def test_encoder_output_does_not_depend_on_the_batch(
    speech2text: Speech2Text, speeches: list[np.ndarray]
) -> None:
    h, lengths = speech2text.encode(speeches)
    for speech, together, length in zip(speeches, h, lengths.tolist(), strict=True):
        alone, alone_length = speech2text.encode([speech])
        assert alone_length.tolist() == [length]
        # 11000 samples end inside a frame, whose window would see the padding of a batch.
        assert torch.allclose(together[:length], alone[0], atol=1e-4)


@pytest.mark.parametrize("task", ["asr", "st"])
@pytest.mark.parametrize("count", [1, 3])
def test_shared_cross_attention_is_espnets(
    speech2text: Speech2Text,
    speeches: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    count: int,
) -> None:
    h, lengths = speech2text.encode(speeches[:count])
    request = (h, lengths, task, ["fr"] * count, ["en"] * count, 2)
    found = speech2text.search(*request)
    attention = speech2text.model.heads[task].decoder.decoders[0].src_attn
    assert "forward" not in vars(attention)  # used in the search only
    monkeypatch.setattr(search, "shared_memory", lambda *_: nullcontext())
    expected = speech2text.search(*request)
    for of_found, of_expected in zip(found, expected, strict=True):
        assert [r.token_ids for r in of_found] == [r.token_ids for r in of_expected]
        assert [r.score for r in of_found] == pytest.approx(
            [r.score for r in of_expected], rel=1e-4
        )


def test_hypotheses_have_no_special_symbols(
    speech2text: Speech2Text, speeches: list[np.ndarray]
) -> None:
    h, lengths = speech2text.encode(speeches)
    results = speech2text.greedy_ctc(h, lengths)
    for task in ("asr", "st"):
        for of_utterance in speech2text.search(h, lengths, task, ["fr"] * 3, ["en"] * 3, nbest=3):
            results += of_utterance
    assert any(result.tokens for result in results)
    special = {token for token in TOKENS if token.startswith("<")} - {"<space>"}
    for result in results:
        assert not special & set(result.tokens)
        assert result.text == "".join(result.tokens).replace("<space>", " ")


def test_untrained_combination_is_said_once(
    experiment: Path, speeches: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    model = Speech2Text(experiment / "config.yaml", experiment / "model.pth")
    model(speeches[0], task="st", lang="fr", target_lang="en")
    assert "was not trained" not in caplog.text
    for _ in range(2):
        model(speeches[0], task="st", lang="en", target_lang="fr")
    assert caplog.text.count("st/en-fr was not trained") == 1
    assert "st/fr-en" in caplog.text


def test_nbest_is_sorted_by_score(speech2text: Speech2Text, speeches: list[np.ndarray]) -> None:
    scores = [r.score for r in speech2text(speeches[1], "asr", "fr", nbest=3)]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)


def test_greedy_ctc_is_the_best_path_without_repeats(
    speech2text: Speech2Text, speeches: list[np.ndarray]
) -> None:
    h, lengths = speech2text.encode(speeches[:1])
    log_p = speech2text.model.asr_head.ctc.log_softmax(h)[0, : int(lengths)].clone()
    allowed = [i for i, t in enumerate(TOKENS) if not t.startswith("<") or i in (0, 5, 16)]
    forbidden = [i for i in range(len(TOKENS)) if i not in allowed]
    log_p[:, forbidden] = -1e9
    path = log_p.argmax(-1).tolist()
    expected = [t for i, t in enumerate(path) if t not in (0, 16) and (i == 0 or t != path[i - 1])]
    (result,) = speech2text.greedy_ctc(h, lengths)
    assert result.token_ids == expected
    assert result.score == pytest.approx(float(log_p.max(-1).values.sum()), rel=1e-4)


def test_model_with_ctc_only(tmp_path: Path, speeches: list[np.ndarray]) -> None:
    directory = make_experiment(
        tmp_path, asr_decoder=None, objectives=["asr/fr"], model_conf={"asr_ctc_weight": 1.0}
    )
    speech2text = Speech2Text(directory / "config.yaml", directory / "model.pth")
    (result,) = speech2text(speeches[0], "asr", "fr")
    h, lengths = speech2text.encode(speeches[:1])
    expected = speech2text.greedy_ctc(h, lengths)[0]
    assert (result.text, result.token_ids) == (expected.text, expected.token_ids)
    assert result.score == pytest.approx(expected.score)
    with pytest.raises(InferenceError, match="heads for asr, found 'st'"):
        speech2text(speeches[0], "st", "fr", "en")


def test_requests_that_cannot_be_served(
    speech2text: Speech2Text, speeches: list[np.ndarray], experiment: Path
) -> None:
    with pytest.raises(ValueError, match="en, fr, found 'zh'"):
        speech2text(speeches[0], "asr", "zh")
    h, lengths = speech2text.encode(speeches[:1])
    with pytest.raises(InferenceError, match="head has no CTC"):
        speech2text.greedy_ctc(h, lengths, "st")
    with pytest.raises(InferenceError, match="at most beam_size 3, found 4"):
        speech2text(speeches[0], "asr", "fr", nbest=4)
    options = SearchOptions(st_ctc_weight=0.3)
    other = Speech2Text(experiment / "config.yaml", experiment / "model.pth", options=options)
    with pytest.raises(InferenceError, match=r"CTC weight 0\.3"):
        other(speeches[0], "st", "fr", "en")


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize("task", ["asr", "st"])
def test_precisions(
    experiment: Path, speeches: list[np.ndarray], speech2text: Speech2Text, dtype: str, task: str
) -> None:
    other = Speech2Text(
        experiment / "config.yaml", experiment / "model.pth", dtype=dtype,
        options=speech2text.options,
    )  # fmt: skip
    found, expected = (s(speeches[1], task, "fr")[0] for s in (other, speech2text))
    assert found.score == pytest.approx(expected.score, rel=1e-3 if dtype == "float64" else 0.1)


def test_weights_of_another_model_are_refused(experiment: Path, tmp_path: Path) -> None:
    state = torch.load(experiment / "model.pth", weights_only=True)
    state["unknown.weight"] = state.pop("st_head.decoder.output_layer.bias")
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(InferenceError, match="1 missing .* 1 unknown"):
        Speech2Text(experiment / "config.yaml", tmp_path / "other.pth")


def test_unknown_search_options_are_refused() -> None:
    with pytest.raises(InferenceError, match="unknown key beam; known: beam_size"):
        SearchOptions.from_dict({"beam": 3})
