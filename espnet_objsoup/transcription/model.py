# SPDX-License-Identifier: Apache-2.0
"""The model that a command line names: found and checked at once, loaded when it is needed.

Loading imports torch and espnet2, which takes many seconds; a mistake is told before that.
"""

import io
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_objsoup.decoding.options import (
    DecodeOptions,
    InferenceError,
    SearchOptions,
    read_train_config,
)
from espnet_objsoup.inference.request import choose_targets
from espnet_objsoup.inference.segmentation import SegmentOptions
from espnet_objsoup.tasks.model_options import ModelOptions
from espnet_objsoup.zoo.pretrained import PretrainedModel, find_model

if TYPE_CHECKING:
    from espnet_objsoup.inference import Speech2Text

_TASK_NAMES = {"asr": "recognition (asr)", "st": "translation (st)"}


@dataclass(frozen=True)
class ModelChoice:
    """A model, not loaded yet.

    Attributes:
        files: of the model.
        objectives: what it was trained on, such as `asr/fr` and `st/fr-en`.
        has_ctc: its recogniser has CTC, which knows when words were said.
        options: of the search.
        segments: how long audio is cut.
        device, dtype: see `Speech2Text`.
    """

    files: PretrainedModel
    objectives: tuple[str, ...]
    has_ctc: bool
    options: SearchOptions
    segments: SegmentOptions
    device: str
    dtype: str

    def load(self) -> "Speech2Text":
        """Read the weights.

        Raises:
            InferenceError: if they are damaged, or the device is not there.
        """
        with _without_notes():
            from espnet_objsoup.inference.speech2text import Speech2Text

        return Speech2Text(
            self.files.train_config,
            self.files.model_file,
            device=self.device,
            dtype=self.dtype,
            options=self.options,
            segments=self.segments,
        )

    def check(
        self,
        task: str,
        lang: str | None = None,
        target_lang: str | None = None,
        nbest: int = 1,
        word_times: bool = False,
    ) -> None:
        """See that the model can serve a request, as `Speech2Text` would once it is loaded.

        Raises:
            InferenceError: listing what the model knows.
        """
        if not any(name.startswith(f"{task}/") for name in self.objectives):
            raise InferenceError(
                f"expected a model with {_TASK_NAMES[task]}, found one of "
                f"{', '.join(self.objectives)}; choose another --model"
            )
        if nbest > self.options.beam_size:
            raise InferenceError(
                f"--nbest: expected at most beam_size {self.options.beam_size}, found {nbest}; "
                "raise beam_size by --config"
            )
        if word_times and not self.has_ctc:
            raise InferenceError(
                "--word_times: expected a model whose recogniser has CTC, found one without; words "
                "have no times there"
            )
        choose_targets(self.objectives, all_languages(self.objectives), task, lang, target_lang)


def all_languages(objectives: Sequence[str]) -> list[str]:
    """Languages of objectives, spoken or translated into."""
    pairs = (name.partition("/")[2] for name in objectives)
    return list(dict.fromkeys(lang for pair in pairs if pair for lang in pair.split("-")))


@contextmanager
def _without_notes() -> Iterator[None]:
    """Drop what ESPnet prints when it is imported where an optional package is not installed."""
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            if not line.startswith("Failed to import Flash Attention"):
                print(line, file=sys.stderr)


def choose_model(args: Namespace) -> ModelChoice:
    """Model of the options `--model`, `--config`, `--device` and `--dtype`.

    Raises:
        ModelError: if there is no such model.
        InferenceError: if a configuration is wrong.
    """
    limit = args.max_segment_s
    segments = SegmentOptions() if limit is None else SegmentOptions(max_segment_s=limit)
    options = None if args.config is None else _search_options(args.config)
    files = find_model(args.model)
    if options is None:
        recommended = files.inference_config
        options = SearchOptions() if recommended is None else _search_options(recommended)
    conf = read_train_config(files.train_config)
    return ModelChoice(
        files, tuple(conf["objectives"]), _has_ctc(conf, files.train_config),
        options, segments, args.device, args.dtype,
    )  # fmt: skip


def _has_ctc(conf: Mapping[str, Any], path: Path) -> bool:
    try:
        return ModelOptions.from_dict(conf.get("model_conf") or {}).asr_ctc_weight > 0
    except (ValueError, TypeError) as err:
        raise InferenceError(f"{path}: model_conf: {err}") from err


def _search_options(path: Path) -> SearchOptions:
    # `nbest` and `ctc_greedy` of stage 12 say what that stage writes; here the command line does.
    return DecodeOptions.from_yaml(path).search
