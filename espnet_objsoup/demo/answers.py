# SPDX-License-Identifier: Apache-2.0
"""From a recording and choices to what the page shows. Gradio is not imported."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_objsoup.decoding.options import InferenceError
from espnet_objsoup.demo.plot import plot_posteriors
from espnet_objsoup.inference.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from espnet_objsoup.inference import Speech2Text

_HYPOTHESES = 5


@dataclass(frozen=True)
class Answer:
    """What the page shows of a recording.

    Attributes:
        text: best hypothesis.
        summary: languages, durations; why there is no plot, if there is none.
        hypotheses: rows of rank, score, score per token, text.
        words: rows of word, start and end in seconds; None where words have no times.
        plot: CTC posteriors; None where there are none.
    """

    text: str
    summary: str
    hypotheses: list[list[object]]
    words: list[list[object]] | None
    plot: "Figure | None"


@dataclass(frozen=True)
class Answerer:
    """Answers with a model.

    Attributes:
        speech2text: the model.
        has_ctc: its recogniser has CTC.
    """

    speech2text: "Speech2Text"
    has_ctc: bool

    def __call__(
        self, path: str | Path, task: str, lang: str | None, target_lang: str | None
    ) -> Answer:
        """Recognise or translate a file.

        Raises:
            InferenceError: for audio or a request that the model cannot take.
        """
        has_words = task == "asr" and self.has_ctc
        results = self.speech2text(
            path,
            task=task,
            lang=lang or None,
            target_lang=target_lang or None if task == "st" else None,
            nbest=min(_HYPOTHESES, self.speech2text.options.beam_size),
            word_times=has_words,
        )
        best = results[0]
        plot, reason = self._plot(path)
        return Answer(
            best.text,
            " ".join(filter(None, [_summary(best), reason])),
            _hypotheses(results),
            [[w.text, round(w.start_s, 2), round(w.end_s, 2)] for w in best.words or ()]
            if has_words
            else None,
            plot,
        )

    def _plot(self, path: str | Path) -> tuple["Figure | None", str]:
        """A plot, or why there is none."""
        if not self.has_ctc:
            return None, "No plot: the model's recogniser has no CTC."
        try:
            return plot_posteriors(self.speech2text.ctc_posteriors(path)), ""
        except InferenceError as err:  # longer than a segment
            logging.info("no plot: %s", err)
            return None, "No plot: the recording is longer than one segment."


def _summary(best: Result) -> str:
    guessed = " (guessed)" if best.lang_was_guessed else ""
    pair = f"{best.lang}{guessed}" + (f" to {best.target_lang}" if best.target_lang else "")
    segments = f" in {len(best.segments)} segments" if len(best.segments) > 1 else ""
    return (
        f"Language: {pair}. {best.audio_s:.1f} s of audio{segments}, computed in "
        f"{best.seconds:.1f} s."
    )


def _hypotheses(results: Sequence[Result]) -> list[list[object]]:
    return [
        [rank, round(r.score, 3), round(r.score / max(len(r.tokens), 1), 3), r.text]
        for rank, r in enumerate(results, 1)
    ]
