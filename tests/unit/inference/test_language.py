# SPDX-License-Identifier: Apache-2.0
"""Guessing the language by what the decoder finds probable."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from espnet_objsoup.inference import (
    InferenceError,
    SearchOptions,
    Speech2Text,
    language,
    pipeline,
)
from espnet_objsoup.inference.search import Searches

from ..experiment import make_experiment


def test_probability_of_tokens_is_the_searchs_score(
    small_experiment: Path, noises: list[np.ndarray]
) -> None:
    """A search by attention alone sums what the guess sums."""
    files = (small_experiment / "config.yaml", small_experiment / "model.pth")
    model = Speech2Text(*files, options=SearchOptions(beam_size=3, ctc_weight=0))
    with torch.no_grad():  # so that hypotheses end by themselves
        model.model.asr_head.decoder.output_layer.bias[-1] += 3
    h, lengths = model.encode(noises)
    for lang in ("en", "fr"):
        found = [one for one, *_ in model.search(h, lengths, "asr", [lang] * 4, [None] * 4)]
        ids = [one.token_ids for one in found]
        with torch.no_grad():
            scores = language._log_p(model._searches, h, lengths, ids, lang).tolist()
        # The search does not count the end of a hypothesis that it has ended itself.
        assert all(len(one) < length for one, length in zip(ids, lengths.tolist(), strict=True))
        assert scores == pytest.approx([one.score for one in found], rel=1e-3)
        assert any(ids)


def test_the_most_probable_language_is_used(small: Speech2Text, noises: list[np.ndarray]) -> None:
    for noise in noises:
        p = small.identify_language(noise)
        assert set(p) == {"en", "fr"}
        assert sum(p.values()) == pytest.approx(1)
        (result,) = small(noise)
        assert result.lang_was_guessed
        assert result.lang == max(p, key=p.get)
        (told,) = small(noise, lang=result.lang)
        assert not told.lang_was_guessed
        assert told.text == result.text


def test_candidates_of_translation_are_its_languages(
    small: Speech2Text, noises: list[np.ndarray]
) -> None:
    (result,) = small(noises[0], "st")
    assert (result.lang, result.target_lang, result.lang_was_guessed) == ("fr", "en", True)


def test_a_long_recording_has_one_language(small: Speech2Text) -> None:
    draw = np.random.default_rng(3)
    (result,) = small(0.3 * draw.standard_normal(16000 * 4))
    assert len(result.segments) > 2
    assert result.lang in ("en", "fr")


@pytest.mark.parametrize("before", range(6))
def test_a_guess_does_not_depend_on_what_stands_before(
    small: Speech2Text, noises: list[np.ndarray], before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first three pieces count, wherever the pools of a list end."""
    monkeypatch.setattr(pipeline, "_POOLED_BATCHES", 2)
    draw = np.random.default_rng(3)
    recording = (0.3 * draw.standard_normal(16000 * 4)).astype(np.float32)
    counts = []
    scores = pipeline.language_log_likelihoods

    def counted(searches: Searches, h: Tensor, *rest: Any) -> Tensor:
        counts.append(len(h))
        return scores(searches, h, *rest)

    monkeypatch.setattr(pipeline, "language_log_likelihoods", counted)
    found = small([noises[0]] * before + [recording], batch_size=2)[-1][0]
    assert len(found.segments) > 3
    assert sum(counts) == before + 3
    (alone,) = small(recording)
    assert (found.lang, found.text) == (alone.lang, alone.text)


def test_a_model_without_ctc(tmp_path: Path, noises: list[np.ndarray]) -> None:
    """Then the best hypothesis of each language is a candidate."""
    directory = make_experiment(tmp_path, model_conf={"asr_ctc_weight": 0.0})
    options = SearchOptions(beam_size=2, maxlenratio=0.1)
    model = Speech2Text(directory / "config.yaml", directory / "model.pth", options=options)
    h, lengths = model.encode(noises[:1])
    best = {}
    for lang in ("en", "fr"):
        ids = [
            model.search(h, lengths, "asr", [other], [None])[0][0].token_ids
            for other in ("en", "fr")
        ]
        with torch.no_grad():
            best[lang] = max(
                float(language._log_p(model._searches, h, lengths, [one], lang)) for one in ids
            )
    found = model.identify_language(noises[0])
    assert np.log(found["en"] / found["fr"]) == pytest.approx(best["en"] - best["fr"], abs=1e-2)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"objectives": ["st/fr-en", "st/de-en"]}, "no head for recognition"),
        ({"asr_decoder": None, "model_conf": {"asr_ctc_weight": 1.0}}, "by CTC only"),
    ],
)
def test_models_that_cannot_tell(
    tmp_path: Path, noises: list[np.ndarray], changes: dict, why: str
) -> None:
    directory = make_experiment(tmp_path, **changes)
    model = Speech2Text(directory / "config.yaml", directory / "model.pth")
    task = next(iter(model.model.heads))
    with pytest.raises(InferenceError, match=f"cannot guess it: .*{why}"):
        model(noises[0], task)
    assert model(noises[0], task, "fr")[0].lang == "fr"
