# SPDX-License-Identifier: Apache-2.0
"""Corpora with a folder per speaker: read speaker by speaker, written as they come.

Memory does not grow with the number of utterances, and the result does not depend on the number of
processes: speakers are read in the order of their utterances' ids.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from espnet_objsoup.data.corpora.findings import Findings
from espnet_objsoup.data.corpora.rows import Utterance, rows_of
from espnet_objsoup.data.datadir import NO_VALUE, listing
from espnet_objsoup.data.datadir_writer import RowWriter, row_writer
from espnet_objsoup.data.parallel import map_jobs

# Starting a process takes as long as reading so many.
_SPEAKERS_PER_PROCESS = 200


@dataclass
class Reading:
    """What was read of one speaker.

    Attributes:
        utterances: part of the corpus and utterance, in the order of ids.
        recordings: part of the corpus -> how many audio files it has, usable or not.
        expected: part of the corpus whose transcripts are used -> recordings and transcripts that
            should belong together.
        usable: the same -> those that do.
        findings: what was found besides.
    """

    utterances: list[tuple[str, Utterance]] = field(default_factory=list)
    recordings: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)
    usable: Counter[str] = field(default_factory=Counter)
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True)
class Speaker:
    """A speaker that has not been read yet.

    Attributes:
        name: speaker id; ids of utterances are `<name>-...`.
        folders: part of the corpus -> folder with this speaker's recordings.
        read: does it; can be pickled.
    """

    name: str
    folders: Mapping[str, Path]
    read: Callable[[], Reading]


@dataclass(frozen=True)
class Corpus:
    """A corpus that has not been read yet.

    Attributes:
        speakers: all of them.
        findings: what was found when they were looked for.
        split_of: part of the corpus -> train, dev or test.
        directories: data directory -> the parts that it consists of.
        incomplete: says, of part -> number of recordings, what differs from the published corpus.
    """

    speakers: Sequence[Speaker]
    findings: Findings
    split_of: Mapping[str, str]
    directories: Mapping[str, Sequence[str]]
    incomplete: Callable[[Mapping[str, int]], Sequence[str]]


@dataclass
class Written:
    """What became of the speakers.

    Attributes:
        objectives: data directory -> objective -> number of utterances with a label.
        rows: data directory -> number of utterances.
        remarks: what was repaired and left out, and what else to look at.
    """

    objectives: dict[str, Counter[str]]
    rows: dict[str, int]
    remarks: list[str]


def find_top(directory: Path, name: str, is_top: Callable[[Path], bool]) -> Path | None:
    """The top folder of a corpus, where it or one level more or less was named.

    Args:
        directory: what was named.
        name: of the top folder.
        is_top: whether a folder is it.
    """
    candidates = (directory / name, directory, directory / name / name)
    return next((path for path in candidates if is_top(path)), None)


def entries(folder: Path, findings: Findings) -> list[os.DirEntry[str]]:
    """Content of a folder by name; one that cannot be read is a problem."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as err:
        findings.problems.append(
            f"{folder}: expected a folder that can be read, found: {err.strerror}; check that the "
            "corpus is complete and its permissions (ls -ld)"
        )
        return []


def usable_audio(entry: os.DirEntry[str], findings: Findings) -> bool:
    """Whether a file has content; one that has none is counted."""
    try:
        size = entry.stat().st_size
    except OSError as err:
        findings.note(f"left out: recordings that cannot be read ({err.strerror})", entry.path)
        return False
    if size == 0:
        findings.note("left out: recordings that are empty files", entry.path)
    return size > 0


def write_corpora(
    corpora: Sequence[Corpus], out: Path, n_jobs: int, max_lost: float = 0.1
) -> Written:
    """Read corpora and write data directories, all or none.

    Data directories of one name are put together. Recordings without transcript are kept where they
    are training data, for self-supervision; in other splits nothing could be said of them.

    Args:
        corpora: with distinct speakers and parts.
        out: parent of the data directories.
        n_jobs: processes; the result does not depend on them.
        max_lost: share of a part's recordings that may be without audio or transcript.

    Raises:
        DataDirError: listing what has to be mended, if more than `max_lost` is not usable, or if a
            directory would be empty.
        OSError: if a file cannot be written.
    """
    findings = Findings()
    for corpus in corpora:
        findings.add(corpus.findings)
        _check_disjoint(corpus, findings)
    findings.raise_problems()
    split_of = {part: split for corpus in corpora for part, split in corpus.split_of.items()}
    speakers = sorted((s for c in corpora for s in c.speakers), key=lambda speaker: speaker.name)
    n_jobs = min(n_jobs, 1 + len(speakers) // _SPEAKERS_PER_PROCESS)
    recordings: Counter[str] = Counter()
    expected: Counter[str] = Counter()
    usable: Counter[str] = Counter()
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(row_writer(out / name))
            for name in dict.fromkeys(name for corpus in corpora for name in corpus.directories)
        }
        writers_of = _by_part(corpora, writers)
        for reading in map_jobs(_read, speakers, n_jobs, "read speakers", unit="speaker"):
            _leave_out_unlabelled(reading, split_of)
            recordings += reading.recordings
            expected += reading.expected
            usable += reading.usable
            findings.add(reading.findings)
            findings.raise_if_many()
            # After a problem the others are looked for, and nothing is written.
            for part, item in reading.utterances if not findings.problems else ():
                for utterance, row in rows_of(item):
                    for writer in writers_of[part]:
                        writer.add(utterance, row)
        findings.problems += [
            f"{out / name}: expected at least one utterance, found none of {', '.join(parts)}; see "
            f"what was left out:\n{listing(findings.lines())}"
            for corpus in corpora
            for name, parts in corpus.directories.items()
            if not writers[name].rows and not findings.problems
        ]
        findings.problems += _lost(expected, usable, max_lost, findings)
        findings.raise_problems()
    return Written(
        {name: writer.objectives for name, writer in writers.items()},
        {name: writer.rows for name, writer in writers.items()},
        findings.lines()
        + [
            f"usable: {usable[part]} of {n} recordings of {part} with transcript"
            for part, n in sorted(expected.items())
            if usable[part] < n
        ]
        + [line for c in corpora for line in c.incomplete(recordings)],
    )


def _lost(
    expected: Mapping[str, int], usable: Mapping[str, int], max_lost: float, findings: Findings
) -> list[str]:
    """A problem for each part of which too much cannot be used."""
    return [
        f"{part}: expected that at most {100 * max_lost:g} % of its recordings lack audio or "
        f"transcript, found {n - usable[part]} of {n}; fetch the part again, or allow more with "
        f"--max_lost:\n{listing(findings.lines())}"
        for part, n in sorted(expected.items())
        if n - usable[part] > max_lost * n
    ]


def _leave_out_unlabelled(reading: Reading, split_of: Mapping[str, str]) -> None:
    """Keep recordings without transcript in the training data alone."""
    kept = []
    for part, item in reading.utterances:
        if item.transcript == NO_VALUE and split_of[part] != "train":
            what = f"left out: recordings of {part} without transcript"
            reading.findings.note(what, item.audio)
        else:
            kept.append((part, item))
    reading.utterances = kept


def _check_disjoint(corpus: Corpus, findings: Findings) -> None:
    """Somebody who speaks in two splits is a problem."""
    for speaker in corpus.speakers:
        if len({corpus.split_of[part] for part in speaker.folders}) > 1:
            where = " and in ".join(str(folder) for folder in speaker.folders.values())
            findings.problems.append(
                f"speaker {speaker.name}: expected in one of train, dev and test, found in "
                f"{where}; remove what does not belong there"
            )


def _by_part(
    corpora: Sequence[Corpus], writers: Mapping[str, RowWriter]
) -> dict[str, list[RowWriter]]:
    """The writers that get the rows of each part."""
    writers_of: dict[str, list[RowWriter]] = {}
    for corpus in corpora:
        for name, parts in corpus.directories.items():
            for part in parts:
                writers_of.setdefault(part, []).append(writers[name])
    return writers_of


def _read(speaker: Speaker) -> Reading:
    return speaker.read()
