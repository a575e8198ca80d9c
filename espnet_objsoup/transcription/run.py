# SPDX-License-Identifier: Apache-2.0
"""From inputs through a model to outputs, with what went wrong on the way."""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from espnet_objsoup.inference.results import FileResult
from espnet_objsoup.transcription.inputs import AudioInput
from espnet_objsoup.transcription.outputs import Write


class Recogniser(Protocol):
    """What is used of `Speech2Text`."""

    def stream(
        self,
        files: Sequence[Path],
        task: str,
        lang: str | None,
        target_lang: str | None,
        nbest: int,
        batch_size: int,
        word_times: bool,
    ) -> Iterator[FileResult]:
        """Results of files in their order."""


@dataclass(frozen=True)
class Request:
    """What is asked of a model.

    Attributes:
        task: `asr` or `st`.
        lang, target_lang: spoken language, language of the translation; None: the model chooses.
        nbest: hypotheses per file.
        batch_size: pieces of audio at once.
        word_times: results with times of words.
    """

    task: str
    lang: str | None
    target_lang: str | None
    nbest: int
    batch_size: int
    word_times: bool


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        total: number of files.
        done: number of those whose results were written.
        failed: for the others that were tried, what was wrong.
        audio_s, seconds: audio of those that were done and its computing time.
        interrupted: Ctrl-C ended the run.
    """

    total: int
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    audio_s: float = 0.0
    seconds: float = 0.0
    interrupted: bool = False

    def summary(self) -> str:
        """One line."""
        speed = f" (real-time factor {self.seconds / self.audio_s:.3f})" if self.audio_s else ""
        return (
            f"{self.done} of {self.total} file{'' if self.total == 1 else 's'}, "
            f"{self.audio_s:.1f} s of audio in {self.seconds:.1f} s{speed}"
        )


def run(
    recogniser: Recogniser,
    request: Request,
    files: Sequence[AudioInput],
    output: AbstractContextManager[Write],
) -> Outcome:
    """Recognise or translate files and write what comes of each at once.

    A file that fails does not stop the others. Ctrl-C ends the run; what was written stays.

    Raises:
        OSError: if an output cannot be written; BrokenPipeError if nobody reads it any more.
        InferenceError: for what the model cannot do with any file.
    """
    outcome = Outcome(len(files))
    with output as write, _progress_bar(files) as bar, logging_redirect_tqdm():
        try:
            _run(recogniser, request, files, write, outcome, bar)
        except KeyboardInterrupt:
            outcome.interrupted = True
    return outcome


def _run(
    recogniser: Recogniser,
    request: Request,
    files: Sequence[AudioInput],
    write: Write,
    outcome: Outcome,
    bar: tqdm,
) -> None:
    found = recogniser.stream(
        [file.path for file in files],
        task=request.task,
        lang=request.lang,
        target_lang=request.target_lang,
        nbest=request.nbest,
        batch_size=request.batch_size,
        word_times=request.word_times,
    )
    # A file may be named by a link and a path, so that results are told apart by their order.
    waiting = deque(files)
    for result in found:
        file = waiting.popleft()
        if result.results is None:
            outcome.failed[file.name] = result.error or "no reason was given"
        else:
            # Bar and transcripts may share a terminal.
            with bar.external_write_mode(file=sys.stdout):
                write(file, result.results)
            outcome.done += 1
            outcome.audio_s += result.results[0].audio_s
            outcome.seconds += result.results[0].seconds
        bar.update()
    if waiting:
        raise RuntimeError(
            f"expected results of {len(files)} files, found {len(files) - len(waiting)}; this is a "
            "fault of this program"
        )


def _progress_bar(files: Sequence[AudioInput]) -> tqdm:
    """A bar on standard error, only where that is a terminal."""
    return tqdm(total=len(files), unit="file", disable=None, file=sys.stderr, dynamic_ncols=True)
