# SPDX-License-Identifier: Apache-2.0
"""The model that a command line names: found and checked at once, loaded when it is needed.

Loading imports torch and espnet2, which takes many seconds; a mistake is told before that.
"""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_objsoup.decoding.options import (
    DecodeOptions,
    InferenceError,
    SearchOptions,
    read_train_config,
)
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
        device, dtype: see `Speech2Text`.
    """

    files: PretrainedModel
    objectives: tuple[str, ...]
    has_ctc: bool
    options: SearchOptions
    device: str
    dtype: str

    def load(self) -> "Speech2Text":
        """Read the weights.

        Raises:
            InferenceError: if they are damaged, or the device is not there.
        """
        from espnet_objsoup.inference import Speech2Text

        return Speech2Text(
            self.files.train_config,
            self.files.model_file,
            device=self.device,
            dtype=self.dtype,
            options=self.options,
        )

    def check(self, task: str, lang: str | None = None, target_lang: str | None = None) -> None:
        """See that the model knows a task and languages, if not all together.

        Raises:
            InferenceError: listing what it knows.
        """
        names = [name for name in self.objectives if name.startswith(f"{task}/")]
        if not names:
            raise InferenceError(
                f"expected a model with {_TASK_NAMES[task]}, found one of "
                f"{', '.join(self.objectives)}; choose another --model"
            )
        spoken, targets = languages(self.objectives)
        for option, wanted, known in (
            ("--lang", lang, spoken),
            ("--target_lang", target_lang, targets),
        ):
            if wanted is not None and wanted not in known:
                raise InferenceError(
                    f"{option}: expected one of {', '.join(sorted(known))}, found {wanted!r}; "
                    f"the model's objectives are {', '.join(names)}"
                )


def languages(objectives: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """Spoken languages and languages of translations."""
    spoken: set[str] = set()
    targets: set[str] = set()
    for name in objectives:
        task, _, pair = name.partition("/")
        if pair:
            lang, _, target = pair.partition("-")
            spoken.add(lang)
            if task == "st":
                targets.add(target)
    return spoken, targets


def choose_model(args: Namespace) -> ModelChoice:
    """Model of the options `--model`, `--config`, `--device` and `--dtype`.

    Raises:
        ModelError: if there is no such model.
        InferenceError: if a configuration is wrong.
    """
    options = None if args.config is None else _search_options(args.config)
    files = find_model(args.model)
    if options is None:
        recommended = files.inference_config
        options = SearchOptions() if recommended is None else _search_options(recommended)
    conf = read_train_config(files.train_config)
    heads = ModelOptions.from_dict(conf.get("model_conf") or {})
    return ModelChoice(
        files, tuple(conf["objectives"]), heads.asr_ctc_weight > 0, options, args.device, args.dtype
    )


def _search_options(path: Path) -> SearchOptions:
    # `nbest` and `ctc_greedy` of stage 12 say what that stage writes; here the command line does.
    return DecodeOptions.from_yaml(path).search
