# SPDX-License-Identifier: Apache-2.0
"""The model as users see it.

Shapes: B utterances, N samples, T frames, D features, V vocabulary.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from espnet_objsoup.decoding.options import DecodeOptions, InferenceError, SearchOptions
from espnet_objsoup.inference.audio import Source, SourceError, is_path
from espnet_objsoup.inference.encoding import Encoder
from espnet_objsoup.inference.language import check_can_identify
from espnet_objsoup.inference.loading import load_model
from espnet_objsoup.inference.pipeline import Pipeline
from espnet_objsoup.inference.request import (
    Request,
    choose_targets,
    languages_of,
    targets_of,
)
from espnet_objsoup.inference.results import CTCPosteriors, FileResult, Hypothesis, Result
from espnet_objsoup.inference.search import Searches
from espnet_objsoup.inference.segmentation import SegmentOptions

Speech = str | Path | np.ndarray | Tensor


class Speech2Text:
    """A trained model that recognises and translates.

    Args:
        objsoup_train_config: `config.yaml` of the experiment.
        objsoup_model_file: weights, such as `valid.loss.ave.pth`.
        device: `cpu`, `cuda`, `cuda:0`.
        dtype: `float32`, `float64`, `float16` or `bfloat16`; the last two are the encoder's only.
        options: of the search.
        objsoup_inference_config: a decoding YAML (stage 12) with options, where none are given.
        segments: how audio is cut that is longer than the model can take.

    Raises:
        InferenceError: if a file is missing or damaged, or weights and configuration do not belong
            together.
    """

    def __init__(
        self,
        objsoup_train_config: str | Path,
        objsoup_model_file: str | Path,
        device: str = "cpu",
        dtype: str = "float32",
        options: SearchOptions | None = None,
        segments: SegmentOptions | None = None,
        objsoup_inference_config: str | Path | None = None,
    ) -> None:
        if options is None and objsoup_inference_config is not None:
            options = DecodeOptions.from_yaml(Path(objsoup_inference_config)).search
        loaded = load_model(Path(objsoup_train_config), Path(objsoup_model_file), device, dtype)
        self.model = loaded.model
        self.device, self.dtype = loaded.device, loaded.dtype
        self.sample_rate_hz = loaded.sample_rate_hz
        self.tokenizer = loaded.tokenizer
        self.options = options or SearchOptions()
        self.segments = (segments or SegmentOptions()).for_model(loaded.trained_length)
        self._encoder = Encoder(loaded)
        self._searches = Searches(loaded, self.options)
        self._pipeline = Pipeline(self._encoder, self._searches, self.segments)
        # A search has a state; a server may ask from several threads.
        self._lock = threading.RLock()

    @classmethod
    def from_pretrained(
        cls, source: str | Path, cache_dir: Path | None = None, **kwargs: Any
    ) -> "Speech2Text":
        """A model from wherever it is.

        Args:
            source: experiment directory, packed zip, directory of an unpacked one, or `user/name`
                of the Hugging Face hub.
            cache_dir: for what is unpacked or downloaded.
            **kwargs: of the class.

        Raises:
            ModelError: if there is no usable model.
            InferenceError: as the class.
        """
        from espnet_objsoup.zoo.pretrained import find_model

        found = find_model(source, cache_dir)
        return cls(**{**found.arguments, **kwargs})

    @property
    def objectives(self) -> tuple[str, ...]:
        """What the model was trained for, such as `asr/fr`, `st/fr-en`."""
        return self.model.objectives

    def languages(self, task: str = "asr") -> list[str]:
        """Spoken languages that a task was trained with.

        Raises:
            InferenceError: if the model lacks the task.
        """
        self._searches.head(task)
        return languages_of(self.objectives, task)

    def target_languages(self, lang: str) -> list[str]:
        """Languages that speech of a language was trained to be translated into."""
        return targets_of(self.objectives, lang)

    def _request(
        self, task: str, lang: str | None, target_lang: str | None, **rest: Any
    ) -> Request:
        """A request; errors as a call."""
        head = self._searches.head(task)
        if lang is None:
            check_can_identify(self._searches, languages_of(self.objectives, task))
        languages = self.model.languages
        targets = choose_targets(self.objectives, languages, task, lang, target_lang)
        request = Request(task, lang, targets, **rest)
        if request.nbest > self.options.beam_size:
            raise InferenceError(
                f"nbest: expected at most beam_size {self.options.beam_size}, found "
                f"{request.nbest}; raise beam_size in SearchOptions"
            )
        if request.word_times and (task != "asr" or head.ctc is None):
            reason = "of translation" if task != "asr" else "by a model without CTC"
            raise InferenceError(
                f"word_times: expected task asr and a model with CTC, found words {reason}, which "
                "have no times"
            )
        return request

    def __call__(
        self,
        speech: Speech | Sequence[Speech],
        task: str = "asr",
        lang: str | None = None,
        target_lang: str | None = None,
        nbest: int = 1,
        sample_rate_hz: int | None = None,
        word_times: bool = False,
        batch_size: int = 16,
    ) -> list[Result] | list[list[Result]]:
        """Recognise or translate speech of any length.

        Args:
            speech: path of an audio file, samples (N,), or a list of those. Integers are scaled by
                the range of their type; (N, channels) and (channels, N) are mixed down to one.
            task: `asr` or `st`.
            lang: spoken language; None: the model guesses, see `identify_language`.
            target_lang: language to translate into; may be left out where there is only one.
            nbest: number of results, at most the beam's size.
            sample_rate_hz: of samples in memory; None: the model's own.
            word_times: also say when each word was spoken; for `asr` with CTC.
            batch_size: segments computed at once.

        Returns:
            The best results; for a list, of each.

        Raises:
            InferenceError: for speech or a request that cannot be served.
        """
        is_list = isinstance(speech, list | tuple)
        given = list(speech) if is_list else [speech]
        sources = [
            Source(_name(one, i if is_list else None), one, sample_rate_hz)
            for i, one in enumerate(given)
        ]
        request = self._request(
            task, lang, target_lang, nbest=nbest, word_times=word_times, batch_size=batch_size
        )
        found: list[list[Result]] = []
        with self._lock:
            for outcome in self._pipeline.run(sources, request):
                if isinstance(outcome, SourceError):
                    raise outcome
                found.append(outcome)
        return found if is_list else found[0]

    def stream(
        self,
        files: Iterable[str | Path],
        task: str = "asr",
        lang: str | None = None,
        target_lang: str | None = None,
        nbest: int = 1,
        batch_size: int = 16,
        word_times: bool = False,
    ) -> Iterator[FileResult]:
        """Recognise or translate files one after the other, as they come.

        A file that cannot be decoded has an error and the next one follows. No more than
        `batch_size` files are taken before their results are given.

        Args:
            files: paths; asked for when they are needed.
            task, lang, target_lang, nbest, word_times: as for a call.
            batch_size: files, and segments, at once.

        Raises:
            InferenceError: for a request that no file could be served.
        """
        # Checked here, not when the first result is asked for.
        request = self._request(
            task, lang, target_lang, nbest=nbest, word_times=word_times, batch_size=batch_size
        )
        return self._stream(files, request)

    def _stream(self, files: Iterable[str | Path], request: Request) -> Iterator[FileResult]:
        for group in batched(files, request.batch_size):
            sources = [Source(str(path), path) for path in group]
            with self._lock:
                outcomes = list(self._pipeline.run(sources, request))
            for path, outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, SourceError):
                    yield FileResult(Path(path), None, outcome.reason)
                else:
                    yield FileResult(Path(path), outcome, None)

    def identify_language(
        self, speech: Speech, sample_rate_hz: int | None = None
    ) -> dict[str, float]:
        """How probable each language is that the model recognises: a best effort.

        The model was not trained for this; see `language`. Probabilities are relative to each
        other, and as a rule too sure.

        Args:
            speech: path or samples.
            sample_rate_hz: of samples in memory; None: the model's own.

        Raises:
            InferenceError: for speech that cannot be used, or a model that cannot tell.
        """
        source = Source(_name(speech, None), speech, sample_rate_hz)
        request = self._request("asr", None, None)
        with self._lock:
            return self._pipeline.identify(source, request)

    def ctc_posteriors(
        self, speech: Speech, task: str = "asr", sample_rate_hz: int | None = None
    ) -> CTCPosteriors:
        """What the CTC of a task's head sees in every frame of one segment.

        Args:
            speech: path or samples.
            task: whose CTC.
            sample_rate_hz: of samples in memory; None: the model's own.

        Raises:
            InferenceError: for speech that cannot be used or is longer than a segment, or a head
                without CTC.
        """
        source = Source(_name(speech, None), speech, sample_rate_hz)
        with self._lock:
            h = self._pipeline.encode_one(source)
            log_p = self._searches.ctc_log_p(h, task)[0]
            shift_s = self._encoder.frame_shift_s
        return CTCPosteriors(log_p.exp().cpu().numpy(), shift_s, list(self.model.token_list))

    def encode(self, speeches: Sequence[np.ndarray | Tensor]) -> tuple[Tensor, Tensor]:
        """Encoder output of B arrays (N,) at the model's rate: h (B, T, D), lengths (B,)."""
        return self._encoder(speeches)

    def search(
        self,
        h: Tensor,
        lengths: Tensor,
        task: str,
        langs: Sequence[str],
        target_langs: Sequence[str | None],
        nbest: int = 1,
    ) -> list[list[Hypothesis]]:
        """Hypotheses of encoded utterances; see `Searches.search`."""
        return self._searches.search(h, lengths, task, langs, target_langs, nbest)

    def greedy_ctc(self, h: Tensor, lengths: Tensor, task: str = "asr") -> list[Hypothesis]:
        """Best CTC paths of encoded utterances; see `Searches.greedy_ctc`."""
        return self._searches.greedy_ctc(h, lengths, task)


def _name(speech: Speech, number: int | None) -> str:
    """How messages call speech."""
    if is_path(speech):
        return str(speech)
    return "speech" if number is None else f"speech[{number}]"
