# SPDX-License-Identifier: Apache-2.0
"""What inference gives back. Neither torch nor espnet2 is imported."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Hypothesis:
    """What a search finds for one utterance.

    Attributes:
        text: detokenised.
        tokens, token_ids: without prompt and `<sos/eos>`.
        score: log-probability under the search's weights.
    """

    text: str
    tokens: list[str]
    token_ids: list[int]
    score: float


@dataclass(frozen=True)
class Segment:
    """A part of the audio that was decoded by itself.

    Attributes:
        start_s, end_s: in the audio.
        text: what this part added to the whole text.
        score: log-probability of the part's hypothesis.
    """

    start_s: float
    end_s: float
    text: str
    score: float


@dataclass(frozen=True)
class Word:
    """A word and when it was said.

    Attributes:
        text: the word; a character in languages written without spaces.
        start_s, end_s: in the audio.
    """

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Result(Hypothesis):
    """A hypothesis for audio of any length, with what it took.

    Attributes:
        task: `asr` or `st`.
        lang: spoken language.
        target_lang: language of the translation; None for `asr`.
        lang_was_guessed: the language was not given but identified by the model.
        audio_s: duration of the audio.
        seconds: computing time; of utterances decoded together, each has its share by duration.
        segments: parts that were decoded by themselves; one for short audio.
        words: with `word_times`, else None.
    """

    task: str
    lang: str
    target_lang: str | None
    lang_was_guessed: bool
    audio_s: float
    seconds: float
    segments: tuple[Segment, ...]
    words: tuple[Word, ...] | None = None


@dataclass(frozen=True)
class FileResult:
    """Results of a file, or why there are none.

    Attributes:
        path: of the file.
        results: best first; None if the file could not be decoded.
        error: what was wrong with it, without its name; None if nothing.
    """

    path: Path
    results: list[Result] | None
    error: str | None


@dataclass(frozen=True)
class CTCPosteriors:
    """What the CTC of a head sees in every frame.

    Attributes:
        probabilities: (T, V).
        frame_shift_s: from one frame to the next.
        tokens: V tokens; the first is `<blank>`.
    """

    probabilities: np.ndarray
    frame_shift_s: float
    tokens: list[str]
