# SPDX-License-Identifier: Apache-2.0
"""What the files of a data directory have to agree about, and what values they may have."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from espnet_objsoup.data.tables import NO_VALUE

# Beyond these speech is not intelligible.
MIN_SPEED, MAX_SPEED = 0.5, 2.0
_SPACE = re.compile(r"[ \t\r\n]")
_LINE_END = re.compile(r"[\r\n]")
_LANGUAGE = re.compile(r"[a-z]{2,3}")


def is_language(value: str) -> bool:
    """Whether a value is a bare code of ISO 639, such as `fr` or `yue`."""
    return _LANGUAGE.fullmatch(value) is not None


def _is_speed(value: str) -> bool:
    try:
        return MIN_SPEED <= float(value) <= MAX_SPEED
    except ValueError:
        return False


# File -> (whether a value is valid, what is expected).
_VALUES: dict[str, tuple[Callable[[str], bool], str]] = {
    "utt2lang": (is_language, "a code of two or three letters a-z such as fr"),
    "utt2tgt": (
        lambda value: value == NO_VALUE or is_language(value),
        f"a code of two or three letters a-z such as en, or {NO_VALUE}",
    ),
    "utt2num_samples": (
        lambda value: value.isascii() and value.isdigit() and int(value) > 0,
        "a number of samples above zero",
    ),
    "utt2speed": (_is_speed, f"a factor between {MIN_SPEED:g} and {MAX_SPEED:g}"),
}


def inconsistencies(columns: Mapping[str, Mapping[str, str]], directory: Path) -> list[str]:
    """All that does not fit together, a message each.

    Args:
        columns: file name -> (key -> value).
        directory: named in the messages.
    """
    problems = []
    reference = columns["utt2spk"].keys()
    if not reference:
        problems.append(f"{directory / 'utt2spk'}: expected at least one utterance, found none")
    for name, column in columns.items():
        if name == "wav.scp" and "segments" in columns:
            continue
        keys = column.keys()
        for others, verb in ((reference - keys, "lacks"), (keys - reference, "adds")):
            if others:
                problems.append(
                    f"{directory / name}: {verb} {len(others)} utterances compared with utt2spk "
                    f"(such as {min(others)}); fix_data_dir keeps those that all files have"
                )
    for utterance, value in columns.get("segments", {}).items():
        problems += _segment_problems(utterance, value, columns["wav.scp"], directory)
    for name, (valid, expected) in _VALUES.items():
        for utterance, value in columns.get(name, {}).items():
            if not valid(value):
                problems.append(
                    f"{directory / name}: {utterance}: expected {expected}, found {value!r}; "
                    "correct it"
                )
    return problems + _target_problems(columns, directory)


def unwritable(columns: Mapping[str, Mapping[str, str]], directory: Path) -> list[str]:
    """Keys and values that would not be read as they were written; arguments as above."""
    return [
        f"{directory / name}: expected an id without spaces and a value in one line, found "
        f"{key!r} {value!r}; write {NO_VALUE} where there is no value"
        for name, column in columns.items()
        for key, value in column.items()
        if _SPACE.search(key) or not key or _LINE_END.search(value) or not value.strip(" \t")
    ]


def _target_problems(columns: Mapping[str, Mapping[str, str]], directory: Path) -> list[str]:
    translations, targets = columns["st_text"], columns["utt2tgt"]
    return [
        f"{directory / 'utt2tgt'}: {utterance}: expected a language where st_text has a "
        f"translation and {NO_VALUE} where not, found {target}; correct one of them"
        for utterance, target in targets.items()
        if (translations.get(utterance, target) != NO_VALUE) != (target != NO_VALUE)
    ]


def _segment_problems(
    utterance: str, value: str, recordings: Mapping[str, str], directory: Path
) -> list[str]:
    where = f"{directory / 'segments'}: {utterance}"
    try:
        recording, begin, end = value.split()
        valid = 0 <= float(begin) < float(end) < math.inf
    except ValueError:
        recording, valid = "", False
    if not valid:
        return [
            f"{where}: expected `<recording> <begin s> <end s>`, begin < end, found {value!r}; "
            "correct it"
        ]
    if recording not in recordings:
        return [f"{where}: expected a recording of wav.scp, found {recording}; correct it"]
    return []
