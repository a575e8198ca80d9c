# SPDX-License-Identifier: Apache-2.0
"""Writing a data directory row by row, with memory that does not grow with it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from espnet_objsoup.data.datadir import (
    REQUIRED,
    DataDir,
    DataDirError,
    listing,
    objective_counts,
    replacing_files,
)
from espnet_objsoup.data.datadir_checks import inconsistencies, unwritable

# Rows that are checked and written at once.
_CHUNK = 2000


class RowWriter:
    """Takes the rows of a data directory in bytewise order of their ids; made by `row_writer`.

    Attributes:
        rows: how many were added.
        objectives: how many of them have a label for `asr/<lang>` and `st/<lang>-<tgt>`.
    """

    def __init__(self, directory: Path, files: Mapping[str, IO[str]]) -> None:
        self.rows = 0
        self.objectives: Counter[str] = Counter()
        self._directory = directory
        self._files = files
        self._chunk = _empty_chunk()
        self._utterance = self._speaker = ""

    def add(self, utterance: str, row: Mapping[str, str]) -> None:
        """Add a row: file name -> value for each of `REQUIRED`.

        Raises:
            DataDirError: if the id is not above the one before or its speaker below, or if the
                values of this row or of one before it do not fit together.
        """
        speaker = row["utt2spk"]
        if utterance <= self._utterance:
            raise DataDirError(
                f"{self._directory}: expected ids in bytewise order, each once, found {utterance} "
                f"after {self._utterance}; two recordings may have the same name"
            )
        if speaker < self._speaker:
            raise DataDirError(
                f"{self._directory}: expected speakers in the order of their utterances' ids, "
                f"found {speaker} ({utterance}) after {self._speaker}; ids have to begin with the "
                "speaker, and speakers may not differ by characters below `-`"
            )
        if speaker != self._speaker:
            self._end_speaker()
            self._files["spk2utt"].write(speaker)
        # A line of spk2utt is as long as a speaker has utterances: it is written as they come.
        self._files["spk2utt"].write(f" {utterance}")
        self._utterance, self._speaker = utterance, speaker
        for name, column in self._chunk.columns.items():
            column[utterance] = row[name]
        self.rows += 1
        if self.rows % _CHUNK == 0:
            self._flush()

    def _end_speaker(self) -> None:
        if self._speaker:
            self._files["spk2utt"].write("\n")
            self._speaker = ""

    def _flush(self) -> None:
        columns = self._chunk.columns
        if not columns["utt2spk"]:
            return
        problems = unwritable(columns, self._directory)
        problems = problems or inconsistencies(columns, self._directory)
        if problems:
            raise DataDirError(listing(problems))
        for name, column in columns.items():
            self._files[name].writelines(f"{key} {value}\n" for key, value in column.items())
        self.objectives += objective_counts(self._chunk)
        self._chunk = _empty_chunk()

    def finish(self) -> None:
        """Write what is left; the end of the block does it too.

        Raises:
            DataDirError: as `add`, or if there was no row.
        """
        self._flush()
        self._end_speaker()
        if not self.rows:
            raise DataDirError(f"{self._directory}: expected at least one utterance, found none")


@contextmanager
def row_writer(directory: Path) -> Iterator[RowWriter]:
    """Write a data directory by `add`, whole or not at all, as `datadir.write` does.

    Raises:
        DataDirError: if a row is not valid, or a folder lies where a file belongs.
        OSError: if a file cannot be written; the directory is then as it was.
    """
    # The files are closed before they change places.
    with replacing_files(directory) as new, ExitStack() as stack:
        files = {
            name: stack.enter_context(open(new / name, "w", encoding="utf-8", newline="\n"))
            for name in (*REQUIRED, "spk2utt")
        }
        writer = RowWriter(directory, files)
        yield writer
        writer.finish()


def _empty_chunk() -> DataDir:
    return DataDir({name: {} for name in REQUIRED})
