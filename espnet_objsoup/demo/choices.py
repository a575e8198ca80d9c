# SPDX-License-Identifier: Apache-2.0
"""What can be chosen on the page: tasks and languages that the model has, nothing else."""

from collections.abc import Sequence

from espnet_objsoup.inference.request import languages_of, targets_of

Choice = tuple[str, str]  # label, value

TASKS = {"asr": "Transcribe", "st": "Translate"}
GUESS = ""


def tasks(objectives: Sequence[str]) -> list[Choice]:
    """Tasks of a model."""
    return [(label, task) for task, label in TASKS.items() if languages_of(objectives, task)]


def spoken(objectives: Sequence[str], task: str) -> list[Choice]:
    """Spoken languages of a task, after the choice to have it guessed."""
    names = languages_of(objectives, task)
    return [("guessed by the model", GUESS), *((name, name) for name in names)]


def targets(objectives: Sequence[str], task: str, lang: str) -> list[Choice]:
    """Languages that speech is translated into; none for recognition.

    Args:
        objectives: of the model.
        task: `asr` or `st`.
        lang: spoken language, or GUESS, where those of all languages can be chosen.
    """
    if task != "st":
        return []
    langs = [lang] if lang else languages_of(objectives, task)
    names = dict.fromkeys(target for one in langs for target in targets_of(objectives, one))
    return [(name, name) for name in names]
