# SPDX-License-Identifier: Apache-2.0
"""What an objective's name says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

_NAME = re.compile(r"(?P<asr>asr/[a-z]+)|(?P<st>st/[a-z]+-[a-z]+)|(?P<ssl>ssl)")
# Objectives of ESPnet's own models: a task and the head that computes the loss.
STOCK_OBJECTIVES = frozenset(
    {
        "asr/ctc", "asr/att", "asr/transducer", "st/ctc", "st/att", "st/transducer", "mt/att",
        "s2t/ctc", "s2t/att",
    }
)  # fmt: skip


class ObjectiveError(ValueError):
    """An objective's name or a glob over objectives is not usable."""


@dataclass(frozen=True)
class ObjectiveSpec:
    """One objective: recognition of a language, translation of a pair, or self-supervision.

    Attributes:
        task: `asr`, `st` or `ssl`.
        lang: spoken language, None for `ssl`.
        target_lang: language of the translation, None unless `st`.
    """

    task: str
    lang: str | None = None
    target_lang: str | None = None

    @classmethod
    def parse(cls, name: str) -> "ObjectiveSpec":
        """Parse `asr/fr`, `st/fr-en` or `ssl`.

        Raises:
            ObjectiveError: for any other name.
        """
        if not _NAME.fullmatch(name):
            raise ObjectiveError(
                f"objective: expected asr/<lang>, st/<src>-<tgt> or ssl with lower-case language "
                f"codes, found {name!r}"
            )
        task, _, languages = name.partition("/")
        return cls(task, *languages.split("-")) if languages else cls(task)

    def __str__(self) -> str:
        """The name that `parse` reads."""
        languages = "-".join(code for code in (self.lang, self.target_lang) if code)
        return f"{self.task}/{languages}" if languages else self.task


def task_of(name: str) -> str:
    """Task of an objective: of a language (pair), `ssl`, or one in STOCK_OBJECTIVES.

    Raises:
        ObjectiveError: for any other name.
    """
    if name in STOCK_OBJECTIVES:
        return name.split("/")[0]
    return ObjectiveSpec.parse(name).task


def report_key(name: str) -> str:
    """An objective in names of what training reports: `asr_fr` in `loss_asr_fr`."""
    return name.replace("/", "_").replace("-", "_")


def match(pattern: str, objectives: Sequence[str], key: str) -> list[str]:
    """Objectives that a glob such as `asr/*` or `*/fr*` names, in their own order.

    Args:
        pattern: shell glob, case-sensitive.
        objectives: names to choose from.
        key: where the pattern stands in the configuration, for the message.

    Raises:
        ObjectiveError: if nothing matches.
    """
    found = [name for name in objectives if fnmatchcase(name, pattern)]
    if not found:
        advice = "; set ssl: cpc to have it" if pattern == "ssl" else ""
        raise ObjectiveError(
            f"{key}: {pattern!r} matches no objective; the data has {', '.join(objectives)}{advice}"
        )
    return found
