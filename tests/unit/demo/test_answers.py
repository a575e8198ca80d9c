# SPDX-License-Identifier: Apache-2.0
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from espnet_objsoup.decoding.options import InferenceError, SearchOptions
from espnet_objsoup.demo.answers import Answerer
from espnet_objsoup.demo.plot import plot_posteriors, shown_tokens
from espnet_objsoup.inference.results import CTCPosteriors, Result, Segment
from tests.unit.transcription.results import make_result

TOKENS = ["<blank>", "<unk>", "un", "deux", "trois"]


def posteriors(path: list[int], other: float = 0.02) -> CTCPosteriors:
    probabilities = np.full((len(path), len(TOKENS)), other)
    probabilities[np.arange(len(path)), path] = 1 - other * (len(TOKENS) - 1)
    return CTCPosteriors(probabilities, 0.04, TOKENS)


@dataclass
class Model:
    """Gives what it was told to."""

    results: list[Result]
    options: SearchOptions
    ctc: CTCPosteriors | None = None
    asked: dict[str, Any] | None = None

    def __call__(self, path: str, **asked: Any) -> list[Result]:
        self.asked = asked
        return self.results

    def ctc_posteriors(self, path: str) -> CTCPosteriors:
        if self.ctc is None:
            raise InferenceError("expected at most 30 s of speech, found more")
        return self.ctc


def test_recognition_shows_everything() -> None:
    words = [("un", 0.123, 0.456), ("deux", 0.5, 0.75)]
    best = replace(make_result("un deux", words=words, score=-2.5), lang_was_guessed=True)
    model = Model([best, make_result("un", score=-3.5)], SearchOptions(beam_size=3))
    model.ctc = posteriors([0, 2, 0, 3])
    answer = Answerer(model, has_ctc=True)("a.wav", "asr", "", "en")
    assert model.asked == {
        "task": "asr",
        "lang": None,
        "target_lang": None,
        "nbest": 3,
        "word_times": True,
    }
    assert answer.text == "un deux"
    assert answer.summary == ("Language: fr (guessed). 10.0 s of audio, computed in 0.5 s.")
    assert answer.hypotheses == [[1, -2.5, -1.25, "un deux"], [2, -3.5, -3.5, "un"]]
    assert answer.words == [["un", 0.12, 0.46], ["deux", 0.5, 0.75]]
    assert answer.plot is not None


def test_translation_has_no_words_and_long_audio_no_plot() -> None:
    halves = (Segment(0, 20, "a", -1.0), Segment(20, 40, "b", -1.0))
    best = replace(make_result("a b", task="st", target_lang="en"), segments=halves)
    model = Model([best], SearchOptions())
    answer = Answerer(model, has_ctc=True)("a.wav", "st", "fr", "en")
    assert (model.asked["lang"], model.asked["target_lang"]) == ("fr", "en")
    assert model.asked["nbest"] == 5
    assert not model.asked["word_times"]
    assert answer.words is None
    assert answer.plot is None
    assert answer.summary.startswith("Language: fr to en. 10.0 s of audio in 2 segments, ")
    assert answer.summary.endswith("No plot: the recording is longer than one segment.")


def test_a_model_without_ctc() -> None:
    model = Model([make_result("")], SearchOptions())
    answer = Answerer(model, has_ctc=False)("a.wav", "asr", "fr", None)
    assert (answer.plot, answer.words) == (None, None)
    assert answer.hypotheses == [[1, -1.5, -1.5, ""]]
    assert answer.summary.endswith("has no CTC.")


def test_rows_of_the_plot() -> None:
    found = posteriors([4, 0, 0, 2])
    assert shown_tokens(found) == [4, 2]
    assert shown_tokens(posteriors([0, 0])) == []


def test_the_plot_is_of_the_posteriors() -> None:
    found = posteriors([0, 3, 3, 0, 2])
    axes = plot_posteriors(found).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["<blank>", "deux", "un"]
    (image,) = axes.images
    np.testing.assert_allclose(image.get_array(), found.probabilities[:, [0, 3, 2]].T)
    assert image.get_extent() == [0.0, pytest.approx(0.2), 3, 0.0]


def test_a_plot_of_many_tokens_shows_the_most_probable() -> None:
    probabilities = np.linspace(0.2, 0.9, 100)[None].repeat(3, 0)
    many = CTCPosteriors(probabilities, 0.04, [f"t{i}" for i in range(100)])
    assert sorted(shown_tokens(many)) == list(range(60, 100))
