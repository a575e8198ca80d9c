# SPDX-License-Identifier: Apache-2.0
"""Kaldi data directories with translations.

A directory holds one file per column, all with the same keys in bytewise order:
`wav.scp text st_text utt2lang utt2tgt utt2spk` and `spk2utt`, optionally `segments`,
`utt2num_samples` and `utt2speed`. `<na>` means none; a value is never empty.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from espnet_objsoup.data.audio_io import is_pipe
from espnet_objsoup.data.datadir_checks import inconsistencies, unwritable
from espnet_objsoup.data.tables import NO_VALUE, DataDirError, listing, read_table, write_table

# NO_VALUE, DataDirError, listing and the tables belong to the interface of this module as well.
__all__ = [
    "NO_VALUE",
    "OPTIONAL",
    "REQUIRED",
    "DataDir",
    "DataDirError",
    "combine",
    "fix",
    "listing",
    "objective_counts",
    "read",
    "read_table",
    "replacing_files",
    "speakers",
    "write",
    "write_table",
]

REQUIRED = ("wav.scp", "text", "st_text", "utt2lang", "utt2tgt", "utt2spk")
OPTIONAL = ("segments", "utt2num_samples", "utt2speed")
_FILES = (*REQUIRED, *OPTIONAL, "spk2utt")


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
        # Code points and the bytes of their UTF-8 have the same order.
        return sorted(self.columns["utt2spk"])

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


def read(directory: Path, allow_pipes: bool = False) -> DataDir:
    """Read and check a data directory.

    Raises:
        DataDirError: listing everything that is wrong (missing files, malformed lines, ids that are
            not sorted, different keys, unknown recordings, values that no file may have, commands
            in `wav.scp` unless `allow_pipes`).
    """
    data, problems = _read_columns(directory, check_order=True)
    if not problems:
        problems = inconsistencies(data.columns, directory)
    if not problems:
        problems = _wrong_speakers(data, directory)
    if not problems and not allow_pipes:
        problems = [
            f"{directory / 'wav.scp'}: {key}: expected a path, found a command ({value!r}); write "
            "the audio to files, or give --allow_pipes true where you trust the file"
            for key, value in data.columns["wav.scp"].items()
            if is_pipe(value)
        ]
    if problems:
        raise DataDirError(listing(problems))
    return data


def _read_columns(directory: Path, check_order: bool) -> tuple[DataDir, list[str]]:
    problems = []
    if not directory.is_dir():
        return DataDir(), [f"{directory}: expected a data directory, found none; run stage 1"]
    data = DataDir()
    for name in (*REQUIRED, *OPTIONAL):
        path = directory / name
        if not path.exists():
            if name in REQUIRED:
                problems.append(
                    f"{path}: not found; every data directory needs it, run the command that "
                    "writes it again"
                )
            continue
        try:
            data.columns[name] = read_table(path, check_order)
        except DataDirError as err:
            problems.append(str(err))
        else:
            if not data.columns[name]:
                problems.append(f"{path}: expected at least one line, found none; write it again")
    return data, problems


def _wrong_speakers(data: DataDir, directory: Path) -> list[str]:
    """`spk2utt` says again what `utt2spk` says; another program may have changed one of them."""
    path = directory / "spk2utt"
    if not path.exists() or read_table(path) == speakers(data):
        return []
    return [
        f"{path}: expected the same speakers and utterances as in utt2spk, found others; "
        "fix_data_dir writes it again"
    ]


def objective_counts(data: DataDir) -> Counter[str]:
    """Number of utterances with a label for `asr/<lang>` and `st/<lang>-<tgt>`."""
    counts: Counter[str] = Counter()
    texts, translations = data.columns["text"], data.columns["st_text"]
    targets = data.columns["utt2tgt"]
    for utterance, lang in data.columns["utt2lang"].items():
        if texts[utterance] != NO_VALUE:
            counts[f"asr/{lang}"] += 1
        if translations[utterance] != NO_VALUE:
            counts[f"st/{lang}-{targets[utterance]}"] += 1
    return counts


def fix(directory: Path) -> tuple[DataDir, dict[str, int]]:
    """Sort, and keep the utterances that every file and a recording have.

    Returns:
        The data and, per file, how many of its lines were dropped.

    Raises:
        DataDirError: if a file is missing or malformed.
    """
    data, problems = _read_columns(directory, check_order=False)
    if problems:
        raise DataDirError(listing(problems))
    by_utterance = [
        set(column)
        for name, column in data.columns.items()
        if not (name == "wav.scp" and "segments" in data.columns)
    ]
    if "segments" in data.columns:
        recordings = data.columns["wav.scp"]
        segments = data.columns["segments"].items()
        by_utterance.append({key for key, value in segments if value.split()[0] in recordings})
    common = set.intersection(*by_utterance)
    if not common:
        raise DataDirError(
            f"{directory}: expected utterances that all of its files have, found none; check that "
            "they belong together"
        )
    fixed = data.subset(common.__contains__)
    dropped = {
        name: len(column) - len(fixed.columns[name]) for name, column in data.columns.items()
    }
    return fixed, {name: n for name, n in dropped.items() if n}


def write(data: DataDir, directory: Path) -> None:
    """Write a data directory, whole or not at all.

    Its files are replaced; whatever else lies there, such as `audio/`, stays. After an error or
    Ctrl-C the old files are back. A process that is killed while files change places (a few
    renames) leaves no `wav.scp`, so that old and new files are never taken for one directory.

    Raises:
        DataDirError: if the columns do not fit together, or a folder lies where a file belongs.
        OSError: if a file cannot be written; the directory is then as it was.
    """
    missing = [name for name in REQUIRED if name not in data.columns]
    problems = [f"{directory / name}: no such column to write" for name in missing]
    problems = problems or inconsistencies(data.columns, directory)
    problems = problems or unwritable(data.columns, directory)
    if problems:
        raise DataDirError(listing(problems))
    with replacing_files(directory) as new:
        for name, column in data.columns.items():
            write_table(column, new / name)
        write_table(speakers(data), new / "spk2utt")


@contextmanager
def replacing_files(directory: Path) -> Iterator[Path]:
    """Replace the files of a data directory by new ones, all or none.

    Args:
        directory: need not exist; files of other names in it stay.

    Yields:
        An empty folder. What lies in it when the block ends without error takes the place of the
        old files; after an error or Ctrl-C they are as they were.

    Raises:
        DataDirError: if a folder lies where a file belongs.
        OSError: if a file cannot be written.
    """
    problems = [
        f"{directory / name}: expected a file or nothing, found a folder; move it away (nothing "
        "was written)"
        for name in _FILES
        if (directory / name).is_dir()
    ]
    if problems:
        raise DataDirError(listing(problems))
    # Inside the directory: a symbolic link or a mount point may lead to another file system.
    real = directory.resolve()
    existed = real.exists()
    new, old = real / ".new", real / ".old"
    try:
        with _naming(directory):
            for folder in (new, old):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
        yield new
        with _naming(directory):
            _exchange(real, new, old)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        if not existed:
            with suppress(OSError):  # it holds the new files, or was never made
                real.rmdir()


@contextmanager
def _naming(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        reason = f"{err.strerror or err}; the directory is as it was, run again when this is mended"
        raise OSError(err.errno, reason, str(directory)) from err


def _exchange(directory: Path, new: Path, old: Path) -> None:
    """Move the files of `directory` to `old` and those of `new` to `directory`, or none."""
    added = {path.name for path in new.iterdir()}
    try:
        # `wav.scp` goes first and comes last: without it nothing is readable.
        for name in _FILES:
            if os.path.lexists(directory / name):
                os.replace(directory / name, old / name)
        for name in reversed(_FILES):
            if name in added:
                os.replace(new / name, directory / name)
    except BaseException:
        for name in reversed(_FILES):
            if name in added and not (new / name).exists():
                (directory / name).unlink()
            if os.path.lexists(old / name):
                os.replace(old / name, directory / name)
        raise


def speakers(data: DataDir) -> dict[str, str]:
    """`spk2utt`: speaker -> utterances separated by spaces."""
    lists: dict[str, list[str]] = {}
    for utterance in data.utterances:
        lists.setdefault(data.columns["utt2spk"][utterance], []).append(utterance)
    return {speaker: " ".join(utterances) for speaker, utterances in lists.items()}


def combine(parts: Iterable[tuple[Path, DataDir]]) -> DataDir:
    """Put data directories together.

    `utt2num_samples` stays if all parts have it. `utt2speed` is 1 where a part has none.

    Raises:
        DataDirError: for an utterance that occurs in two of them, for recordings of one name with
            different audio, or if only some have `segments`.
    """
    parts = list(parts)
    segmented = ["segments" in data.columns for _, data in parts]
    if len(set(segmented)) > 1:
        first = parts[segmented.index(False)][0]
        raise DataDirError(
            f"expected `segments` in all directories or in none, found none in {first}; run "
            "format_audio on those that have it first"
        )
    everywhere = set.intersection(*(set(data.columns) for _, data in parts))
    names = {name for name in (*REQUIRED, *OPTIONAL) if name in everywhere}
    if any("utt2speed" in data.columns for _, data in parts):
        names.add("utt2speed")
    result = DataDir({name: {} for name in (*REQUIRED, *OPTIONAL) if name in names})
    problems = []
    for directory, data in parts:
        for name, column in result.columns.items():
            added = data.columns.get(name) or dict.fromkeys(data.columns["utt2spk"], "1")
            repeated = column.keys() & added.keys()
            if name == "wav.scp" and segmented[0]:
                repeated = {key for key in repeated if column[key] != added[key]}
            if repeated:
                problems.append(
                    f"{directory / name}: {len(repeated)} ids are in another directory too (such "
                    f"as {min(repeated)}); rename or remove them"
                )
            column.update(added)
    if problems:
        raise DataDirError(listing(problems))
    return result
