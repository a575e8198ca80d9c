# SPDX-License-Identifier: Apache-2.0
"""Audio files that a command line names: files, folders, a list, standard input."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

STDIN = "-"
STDIN_NAME = "stdin"
# Of the containers that libsndfile reads. Only folders are searched by these: a file that is named
# is read whatever its name.
AUDIO_SUFFIXES = frozenset(
    ".wav .flac .mp3 .ogg .oga .opus .aif .aiff .aifc .au .snd .caf .w64 .rf64 .sph .nist".split()
)


class UsageError(ValueError):
    """Options or arguments that make no sense together: exit status 2."""


@dataclass(frozen=True)
class AudioInput:
    """A file to read.

    Attributes:
        path: where the audio is; of standard input a temporary file.
        name: as the user named it, for output and messages.
        relative: path for an output of its own, without suffix: below the folder that was given,
            else the file's name.
    """

    path: Path
    name: str
    relative: Path


@dataclass
class Inputs:
    """What was found.

    Attributes:
        files: in the order in which they were named, those of a folder sorted by name; none twice.
        missing: for names that cannot be read, what was wrong.
        has_folder: a folder was named, so that there may be any number of files.
    """

    files: list[AudioInput] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    has_folder: bool = False


def read_list(source: str) -> list[str]:
    """Names in a file, one in a line; empty lines do not count.

    Args:
        source: path of the list, or `-` for standard input.

    Raises:
        OSError: if it cannot be read.
        UsageError: if it is not text.
    """
    try:
        if source == STDIN:
            lines = sys.stdin.buffer.read().decode(sys.getfilesystemencoding()).splitlines()
        else:
            lines = Path(source).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as err:
        raise UsageError(
            f"--files_from {source}: expected a text with one path in a line, found other data "
            f"({err.reason} at byte {err.start}); audio itself is read from the argument `-`"
        ) from err
    return [line for line in lines if line.strip()]


def find_inputs(names: Iterable[str], recursive: bool, stdin_path: Path | None = None) -> Inputs:
    """Audio files of files and folders.

    Args:
        names: paths, and `-` where standard input is meant.
        recursive: folders with all that is below them; else the files in them only.
        stdin_path: file that holds standard input.
    """
    found = Inputs()
    seen: set[str] = set()
    for name in names:
        if name == STDIN and stdin_path is not None:
            found.files.append(AudioInput(stdin_path, STDIN_NAME, Path(STDIN_NAME)))
            continue
        path = Path(name)
        if path.is_dir():
            found.has_folder = True
            known_missing = len(found.missing)
            candidates = [
                AudioInput(file, str(file), file.relative_to(path).with_suffix(""))
                for file in _in_folder(path, recursive, found.missing)
            ]
            if not candidates and len(found.missing) == known_missing:
                found.missing[name] = _empty_folder(recursive)
        elif path.exists():
            candidates = [AudioInput(path, name, Path(path.with_suffix("").name))]
        else:
            candidates = []
            found.missing[name] = "expected an audio file or a folder, found nothing there"
        for candidate in candidates:
            real = os.path.realpath(candidate.path)
            if real not in seen:
                seen.add(real)
                found.files.append(candidate)
    return found


def _in_folder(folder: Path, recursive: bool, missing: dict[str, str]) -> list[Path]:
    """Audio files of a folder, sorted; hidden ones are left out, as a shell's `*` does."""

    def unreadable(err: OSError) -> None:
        missing[str(err.filename)] = f"expected a folder that can be read, found: {err.strerror}"

    found = []
    for parent, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES
        ]
    return sorted(found)


def _empty_folder(recursive: bool) -> str:
    known = " ".join(sorted(AUDIO_SUFFIXES))
    below = "" if recursive else "; --recursive looks into its folders, too"
    return f"expected audio files ({known}) in the folder, found none{below}"


def check_unique(files: Sequence[AudioInput]) -> None:
    """See that files with an output each do not share it.

    Raises:
        UsageError: naming two of them.
    """
    first: dict[Path, str] = {}
    for file in files:
        # Some file systems do not distinguish case.
        key = Path(str(file.relative).casefold())
        if key in first:
            raise UsageError(
                f"expected inputs whose outputs have different names, found {first[key]} and "
                f"{file.name}; run them apart, with another --output"
            )
        first[key] = file.name


@contextmanager
def stdin_audio(names: Sequence[str]) -> Iterator[Path | None]:
    """Standard input as a file, if `-` is among the names.

    Yields:
        A temporary file that is gone afterwards, or None.

    Raises:
        UsageError: if `-` stands there twice, or nothing is piped in.
    """
    count = list(names).count(STDIN)
    if count == 0:
        yield None
        return
    if count > 1:
        raise UsageError("expected `-` (standard input) at most once, found it several times")
    if sys.stdin.isatty():
        raise UsageError(
            "expected audio on standard input for `-`, found a terminal; pipe a file into it"
        )
    # A decoder has to seek: the header of a WAV file may say too little.
    with tempfile.TemporaryDirectory(prefix="objsoup_") as directory:
        path = Path(directory) / STDIN_NAME
        with open(path, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path
