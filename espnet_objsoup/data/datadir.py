# SPDX-License-Identifier: Apache-2.0
"""Kaldi data directories with translations.

A directory holds one file per column, all with the same keys in bytewise order:
`wav.scp text st_text utt2lang utt2tgt utt2spk` and `spk2utt`, optionally `segments`,
`utt2num_samples` and `utt2speed`. `<na>` means none; a value is never empty.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

NO_VALUE = "<na>"
REQUIRED = ("wav.scp", "text", "st_text", "utt2lang", "utt2tgt", "utt2spk")
OPTIONAL = ("segments", "utt2num_samples", "utt2speed")


class DataDirError(ValueError):
    """A data directory is not usable; the message lists everything that is wrong with it."""


@dataclass
class DataDir:
    """Columns of a data directory.

    Attributes:
        columns: file name -> (key -> value). All but `wav.scp` of a directory with `segments` are
            keyed by utterance; there `wav.scp` is keyed by recording.
    """

    columns: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def utterances(self) -> list[str]:
        """Utterance ids in bytewise order."""
        return sorted(self.columns["utt2spk"], key=str.encode)

    def row(self, utterance: str) -> dict[str, str]:
        """All values of an utterance, by file name."""
        return {
            name: column[utterance] for name, column in self.columns.items() if utterance in column
        }

    def subset(self, keep: Callable[[str], bool]) -> "DataDir":
        """The utterances for which `keep` is true; recordings that are still used."""
        kept = {utterance for utterance in self.columns["utt2spk"] if keep(utterance)}
        columns = {
            name: {k: v for k, v in column.items() if k in kept}
            for name, column in self.columns.items()
        }
        if "segments" in self.columns:
            used = {value.split()[0] for value in columns["segments"].values()}
            columns["wav.scp"] = {k: v for k, v in self.columns["wav.scp"].items() if k in used}
        return DataDir(columns)


def read_table(path: Path) -> dict[str, str]:
    """Read `key value` lines.

    Raises:
        DataDirError: listing every line that is malformed or repeats a key.
    """
    table: dict[str, str] = {}
    problems = []
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            key, _, value = line.rstrip("\r\n").partition(" ")
            value = value.strip()
            if not key or not value:
                problems.append(
                    f"{path}:{number}: expected `<id> <value>`, found {line.rstrip()!r}; write "
                    f"{NO_VALUE} where there is no value"
                )
            elif key in table:
                problems.append(f"{path}:{number}: {key} occurs twice; remove one of the lines")
            table[key] = value
    if problems:
        raise DataDirError(_listing(problems))
    return table


def read(directory: Path, allow_pipes: bool = False) -> DataDir:
    """Read and check a data directory.

    Raises:
        DataDirError: listing everything that is wrong (missing files, malformed lines, different
            keys, unknown recordings, commands in `wav.scp` unless `allow_pipes`).
    """
    data, problems = _read_columns(directory)
    if not problems:
        problems = _inconsistencies(data, directory)
    if not problems and not allow_pipes:
        problems = [
            f"{directory / 'wav.scp'}: {key}: expected a path, found a command ({value!r}); write "
            "the audio to files, or allow commands where you trust the file"
            for key, value in data.columns["wav.scp"].items()
            if value.endswith("|") or value.startswith("|")
        ]
    if problems:
        raise DataDirError(_listing(problems))
    return data


def _read_columns(directory: Path) -> tuple[DataDir, list[str]]:
    problems = []
    if not directory.is_dir():
        return DataDir(), [f"{directory}: expected a data directory, found none; run stage 1"]
    data = DataDir()
    for name in (*REQUIRED, *OPTIONAL):
        path = directory / name
        if not path.exists():
            if name in REQUIRED:
                problems.append(f"{path}: not found; every data directory needs it")
            continue
        try:
            data.columns[name] = read_table(path)
        except DataDirError as err:
            problems.append(str(err))
        except UnicodeDecodeError as err:
            problems.append(f"{path}: expected UTF-8, found byte {err.object[err.start]:#x}")
    return data, problems


def _inconsistencies(data: DataDir, directory: Path) -> list[str]:
    problems = []
    reference = set(data.columns["utt2spk"])
    if not reference:
        problems.append(f"{directory / 'utt2spk'}: expected at least one utterance, found none")
    for name, column in data.columns.items():
        if name == "wav.scp" and "segments" in data.columns:
            continue
        for keys, verb in ((reference - set(column), "lacks"), (set(column) - reference, "adds")):
            if keys:
                problems.append(
                    f"{directory / name}: {verb} {len(keys)} utterances compared with utt2spk "
                    f"(such as {min(keys)}); fix_data_dir keeps those that all files have"
                )
    for utterance, value in data.columns.get("segments", {}).items():
        problems += _segment_problems(utterance, value, data.columns["wav.scp"], directory)
    for utterance in reference & set(data.columns["st_text"]) & set(data.columns["utt2tgt"]):
        translation = data.columns["st_text"][utterance] != NO_VALUE
        if translation != (data.columns["utt2tgt"][utterance] != NO_VALUE):
            problems.append(
                f"{directory / 'utt2tgt'}: {utterance}: expected a language where st_text has a "
                f"translation and {NO_VALUE} where not, found {data.columns['utt2tgt'][utterance]}"
            )
    return problems


def _segment_problems(
    utterance: str, value: str, recordings: Mapping[str, str], directory: Path
) -> list[str]:
    where = f"{directory / 'segments'}: {utterance}"
    try:
        recording, begin, end = value.split()
        valid = 0 <= float(begin) < float(end)
    except ValueError:
        recording, valid = "", False
    if not valid:
        return [f"{where}: expected `<recording> <begin s> <end s>`, begin < end, found {value!r}"]
    if recording not in recordings:
        return [f"{where}: recording {recording} is not in wav.scp"]
    return []


def _listing(problems: list[str], limit: int = 50) -> str:
    shown = problems[:limit]
    more = len(problems) - len(shown)
    return "\n".join(shown) + (f"\n(and {more} more)" if more > 0 else "")


def fix(directory: Path) -> tuple[DataDir, dict[str, int]]:
    """Keep the utterances that every file has.

    Returns:
        The data and, per file, how many of its lines were dropped.

    Raises:
        DataDirError: if a file is missing or malformed.
    """
    data, problems = _read_columns(directory)
    if problems:
        raise DataDirError(_listing(problems))
    by_utterance = [
        set(column)
        for name, column in data.columns.items()
        if not (name == "wav.scp" and "segments" in data.columns)
    ]
    common = set.intersection(*by_utterance)
    if not common:
        raise DataDirError(f"{directory}: no utterance is in all of its files")
    fixed = data.subset(common.__contains__)
    dropped = {
        name: len(column) - len(fixed.columns[name]) for name, column in data.columns.items()
    }
    return fixed, {name: n for name, n in dropped.items() if n}


def write(data: DataDir, directory: Path) -> None:
    """Write a data directory, whole or not at all.

    Audio that already lies in `directory`/audio stays; every other file is replaced.

    Raises:
        DataDirError: if the columns do not fit together.
    """
    missing = [name for name in REQUIRED if name not in data.columns]
    problems = [f"{directory / name}: no such column to write" for name in missing]
    problems = problems or _inconsistencies(data, directory)
    if problems:
        raise DataDirError(_listing(problems))
    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, column in data.columns.items():
        write_table(column, temporary / name)
    write_table(speakers(data), temporary / "spk2utt")
    directory.mkdir(parents=True, exist_ok=True)
    for name in (*REQUIRED, *OPTIONAL, "spk2utt"):
        # A file of an earlier run that is not written again would contradict the new ones.
        if not (temporary / name).exists():
            (directory / name).unlink(missing_ok=True)
    for path in sorted(temporary.iterdir(), key=lambda p: p.name == "wav.scp"):
        os.replace(path, directory / path.name)  # wav.scp last: without it nothing is readable
    temporary.rmdir()


def write_table(table: Mapping[str, str], path: Path) -> None:
    """Write `key value` lines in bytewise order of the keys, through a temporary name."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for key in sorted(table, key=str.encode):
            file.write(f"{key} {table[key]}\n")
    os.replace(temporary, path)


def speakers(data: DataDir) -> dict[str, str]:
    """`spk2utt`: speaker -> utterances separated by spaces."""
    lists: dict[str, list[str]] = {}
    for utterance in data.utterances:
        lists.setdefault(data.columns["utt2spk"][utterance], []).append(utterance)
    return {speaker: " ".join(utterances) for speaker, utterances in lists.items()}


def combine(parts: Iterable[tuple[Path, DataDir]]) -> DataDir:
    """Put data directories together; optional columns stay if all parts have them.

    Raises:
        DataDirError: for an utterance that occurs in two of them.
    """
    parts = list(parts)
    names = set.intersection(*(set(data.columns) for _, data in parts))
    if any(("segments" in data.columns) != ("segments" in names) for _, data in parts):
        raise DataDirError(
            "combine: expected `segments` in all directories or in none; run format_audio first"
        )
    result = DataDir({name: {} for name in (*REQUIRED, *OPTIONAL) if name in names})
    problems = []
    for directory, data in parts:
        for name, column in result.columns.items():
            repeated = column.keys() & data.columns[name].keys()
            if repeated:
                problems.append(f"{directory / name}: {min(repeated)} is in another directory too")
            column.update(data.columns[name])
    if problems:
        raise DataDirError(_listing(problems))
    return result
