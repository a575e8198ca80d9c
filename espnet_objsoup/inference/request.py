# SPDX-License-Identifier: Apache-2.0
"""What a user asks of a model, checked before any speech is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from espnet_objsoup.decoding.options import InferenceError


@dataclass(frozen=True)
class Request:
    """A request that the model can serve.

    Attributes:
        task: `asr` or `st`.
        lang: spoken language; None: to be guessed among those of `targets`.
        targets: spoken language -> language of the translation (None for `asr`).
        nbest: number of results.
        word_times: also say when each word was spoken.
        batch_size: segments computed at once.
    """

    task: str
    lang: str | None
    targets: Mapping[str, str | None]
    nbest: int = 1
    word_times: bool = False
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InferenceError: for numbers below 1.
        """
        for name in ("nbest", "batch_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InferenceError(f"{name}: expected a whole number >= 1, found {value!r}")

    @property
    def languages(self) -> list[str]:
        """Spoken languages that come into question."""
        return list(self.targets)


def languages_of(objectives: Sequence[str], task: str) -> list[str]:
    """Spoken languages that a task was trained with."""
    names = (name.partition("/")[2] for name in objectives if name.startswith(f"{task}/"))
    return list(dict.fromkeys(name.partition("-")[0] for name in names))


def targets_of(objectives: Sequence[str], lang: str) -> list[str]:
    """Languages that speech of a language was trained to be translated into."""
    start = f"st/{lang}-"
    return [name[len(start) :] for name in objectives if name.startswith(start)]


def choose_targets(
    objectives: Sequence[str],
    languages: Sequence[str],
    task: str,
    lang: str | None,
    target_lang: str | None,
) -> dict[str, str | None]:
    """Spoken languages in question, and what each is translated into.

    A combination that was not trained is no error, if the model knows both languages.

    Args:
        objectives, languages: of the model.
        task: one that the model has.
        lang, target_lang: as asked for.

    Raises:
        InferenceError: for a language that the model does not know, or a target that is left open.
    """
    asked = {"lang": lang, **({"target_lang": target_lang} if task == "st" else {})}
    for name, value in asked.items():
        if value is not None and value not in languages:
            raise InferenceError(
                f"{name}: expected one of {', '.join(languages)}, found {value!r}; the model's "
                f"objectives are {', '.join(objectives)}"
            )
    if task == "asr":
        return dict.fromkeys(languages_of(objectives, task) if lang is None else [lang])
    if lang is not None:
        return {lang: target_lang or _only_target(objectives, lang)}
    # Languages that the model does not recognise cannot be guessed.
    known = set(languages_of(objectives, "asr"))
    spoken = [name for name in languages_of(objectives, task) if name in known]
    if target_lang is None:
        return {name: _only_target(objectives, name) for name in spoken}
    found = {name: target_lang for name in spoken if target_lang in targets_of(objectives, name)}
    if not found:
        raise InferenceError(
            f"target_lang: expected one that the model translates into, found {target_lang!r}; its "
            f"objectives are {', '.join(objectives)}"
        )
    return found


def _only_target(objectives: Sequence[str], lang: str) -> str:
    targets = targets_of(objectives, lang)
    if len(targets) == 1:
        return targets[0]
    if targets:
        raise InferenceError(
            f"target_lang: expected one of {', '.join(targets)} for {lang}, found None"
        )
    raise InferenceError(
        f"lang: the model was not trained to translate from {lang!r}; its objectives are "
        f"{', '.join(objectives)}; with target_lang it translates all the same, as a guess"
    )
