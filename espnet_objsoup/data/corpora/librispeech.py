# SPDX-License-Identifier: Apache-2.0
"""LibriSpeech.

Layout: `LibriSpeech/<part>/<reader>/<chapter>/<reader>-<chapter>-<number>.flac` beside
`<reader>-<chapter>.trans.txt` with lines `<utterance> <WORDS>`, and `LibriSpeech/SPEAKERS.TXT`.
The speaker is the reader, so that a reader in two splits is noticed; utterance ids are the corpus'.
"""

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_objsoup.data.corpora.findings import Findings
from espnet_objsoup.data.corpora.rows import Utterance
from espnet_objsoup.data.corpora.speakers import (
    Corpus,
    Reading,
    Speaker,
    entries,
    find_top,
    usable_audio,
)
from espnet_objsoup.data.corpora.transcripts import Texts, read_lines, transcript
from espnet_objsoup.data.datadir import NO_VALUE, DataDirError

TRAIN_SUBSETS = {
    "100": ("train-clean-100",),
    "460": ("train-clean-100", "train-clean-360"),
    "960": ("train-clean-100", "train-clean-360", "train-other-500"),
}
DEV_PARTS = ("dev-clean", "dev-other")
TEST_PARTS = ("test-clean", "test-other")
SPLIT_OF = (
    dict.fromkeys(TRAIN_SUBSETS["960"], "train")
    | dict.fromkeys(DEV_PARTS, "dev")
    | dict.fromkeys(TEST_PARTS, "test")
)
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class LibriSpeechConfig:
    """What to prepare.

    Attributes:
        root: folder that contains `LibriSpeech/`, or that folder itself.
        train_subset: hours of training data, one of `TRAIN_SUBSETS`.
        unlabelled_subset: more hours whose transcripts are not used, for self-supervision; one of
            `TRAIN_SUBSETS` (what `train_subset` has is not repeated) or nothing.
        asr_policy: text policy.
    """

    root: Path
    train_subset: str = "960"
    unlabelled_subset: str = ""
    asr_policy: str = "lc.rm"

    @property
    def labelled_parts(self) -> tuple[str, ...]:
        """Parts of the training data whose transcripts are used."""
        return TRAIN_SUBSETS[self.train_subset]

    @property
    def train_parts(self) -> tuple[str, ...]:
        """Parts of the training data, labelled or not."""
        unlabelled = TRAIN_SUBSETS[self.unlabelled_subset] if self.unlabelled_subset else ()
        return tuple(dict.fromkeys((*self.labelled_parts, *unlabelled)))


def find_root(directory: Path) -> Path:
    """The folder with the parts, where one level more or less was named.

    Raises:
        DataDirError: if there is no part.
    """
    root = find_top(
        directory, "LibriSpeech", lambda root: any((root / part).is_dir() for part in SPLIT_OF)
    )
    if root is not None:
        return root
    raise DataDirError(
        f"{directory}: expected LibriSpeech/train-clean-100 and the like in it, found none of "
        "the parts; name the folder that contains LibriSpeech/, or fetch the corpus "
        "(prepare it with --download true)"
    )


def open_corpus(config: LibriSpeechConfig) -> Corpus:
    """The corpus, ready to be read.

    Raises:
        DataDirError: if parts are missing, empty or unreadable.
    """
    root = find_root(config.root)
    findings = Findings()
    folders: dict[str, dict[str, Path]] = {}
    for part in (*config.train_parts, *DEV_PARTS, *TEST_PARTS):
        for reader in _readers(root, part, findings):
            folders.setdefault(reader, {})[part] = root / part / reader
    findings.raise_problems()
    _compare_with_table(root / "SPEAKERS.TXT", folders, findings)
    labelled = frozenset((*config.labelled_parts, *DEV_PARTS, *TEST_PARTS))
    alone = {part.replace("-", "_"): (part,) for part in (*DEV_PARTS, *TEST_PARTS)}
    return Corpus(
        speakers=[
            Speaker(
                reader,
                parts,
                functools.partial(read_reader, reader, parts, labelled, config.asr_policy),
            )
            for reader, parts in folders.items()
        ],
        findings=findings,
        split_of=SPLIT_OF,
        directories={"train": config.train_parts, "dev": DEV_PARTS, **alone},
        incomplete=incomplete,
    )


def _readers(root: Path, part: str, findings: Findings) -> list[str]:
    folder = root / part
    if not os.path.lexists(folder):
        there = ", ".join(name for name in SPLIT_OF if (root / name).is_dir())
        findings.problems.append(
            f"{folder}: expected a part of LibriSpeech, found nothing; there are {there}; fetch it "
            f"(--download true), or choose another --train_subset ({', '.join(TRAIN_SUBSETS)})"
        )
        return []
    before = len(findings.problems)
    readers = _numbered(folder, findings)
    if not readers and len(findings.problems) == before:
        findings.problems.append(
            f"{folder}: expected folders of readers such as 103/, found none; unpack the archive "
            "again"
        )
    return readers


def _numbered(folder: Path, findings: Findings) -> list[str]:
    """Names of folders that are numbers; others are counted."""
    names = []
    for entry in entries(folder, findings):
        if _NUMBER.fullmatch(entry.name) and entry.is_dir():
            names.append(entry.name)
        else:
            findings.note("left out: files and folders that are not the corpus'", entry.path)
    return names


def _compare_with_table(
    path: Path, folders: Mapping[str, Mapping[str, Path]], findings: Findings
) -> None:
    """Count readers that lie elsewhere than the corpus' own table says."""
    try:
        # Names may be in another encoding; they are not used.
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as err:
        findings.note(
            "warning: no table of readers, their parts are not compared with it",
            f"{path}: {err.strerror}",
        )
        return
    listed: dict[str, str] = {}
    for line in lines:
        reader, *values = (value.strip() for value in line.lstrip("\ufeff").split("|", 3))
        if not reader.startswith(";") and len(values) >= 2:
            listed[reader] = values[1]
    for reader, parts in folders.items():
        for part, folder in parts.items():
            if reader not in listed:
                findings.note("warning: readers that SPEAKERS.TXT does not list", folder)
            elif listed[reader] != part:
                findings.note(
                    "warning: readers that SPEAKERS.TXT lists in another part",
                    f"{folder}, listed in {listed[reader]}",
                )


def read_reader(
    reader: str, parts: Mapping[str, Path], labelled: frozenset[str], policy: str
) -> Reading:
    """Read all chapters of a reader.

    Args:
        reader: number.
        parts: part of the corpus -> the reader's folder there.
        labelled: parts whose transcripts are used.
        policy: text policy.

    Returns:
        Utterances in the order of their ids.
    """
    reading = Reading()
    for part, folder in parts.items():
        for chapter in _numbered(folder, reading.findings):
            _read_chapter(reading, part, folder / chapter, part in labelled, policy)
    reading.utterances.sort(key=lambda pair: pair[1].utterance)
    for (_, first), (_, second) in zip(reading.utterances, reading.utterances[1:], strict=False):
        if first.utterance == second.utterance:
            reading.findings.problems.append(
                f"{second.audio}: expected each utterance once, found it in {first.audio} too; "
                "remove one of them"
            )
    return reading


def _read_chapter(reading: Reading, part: str, folder: Path, labelled: bool, policy: str) -> None:
    reader, chapter = folder.parts[-2:]
    prefix = f"{reader}-{chapter}-"
    findings = reading.findings
    table = folder / f"{reader}-{chapter}.trans.txt"
    own_audio = re.compile(rf"{prefix}\d+\.flac")
    texts: dict[str, str] = {}
    audio: list[str] = []
    left_out: set[str] = set()
    for entry in entries(folder, findings):
        stem = entry.name.removesuffix(".flac")
        if entry.name == table.name:
            texts = _read_table(table, prefix, findings)
        elif not own_audio.fullmatch(entry.name):
            findings.note("left out: files and folders that are not the corpus'", entry.path)
        elif usable_audio(entry, findings):
            audio.append(stem)
        else:
            left_out.add(stem)
    reading.recordings[part] += len(audio) + len(left_out)
    if labelled:
        reading.expected[part] += len(texts.keys() | left_out | set(audio))
    if labelled and not table.exists():
        findings.note("without transcript: chapters that have no .trans.txt", folder)
    for utterance in audio:
        path = str(folder / f"{utterance}.flac")
        text = NO_VALUE
        if labelled:
            text = transcript(texts.get(utterance), "en", policy, path, findings)
            reading.usable[part] += text != NO_VALUE
        short = utterance.removeprefix(f"{reader}-")
        reading.utterances.append((part, Utterance(short, reader, path, "en", text)))
    for utterance in sorted(texts.keys() - left_out - set(audio)):
        findings.note("left out: lines of transcripts without a recording", f"{table}: {utterance}")


def _read_table(path: Path, prefix: str, findings: Findings) -> dict[str, str]:
    texts = Texts(path, findings)
    try:
        content = path.read_bytes()
    except OSError as err:
        findings.problems.append(
            f"{path}: expected a transcript that can be read, found: {err.strerror}; check the "
            "permissions (ls -l)"
        )
        return {}
    for number, utterance, words in read_lines(content, path, findings):
        if not utterance.startswith(prefix):
            findings.problems.append(
                f"{path}:{number}: expected an utterance of this chapter ({prefix}0000), found "
                f"{utterance}; fetch the chapter again, its texts may be mixed up"
            )
            continue
        texts.add(number, utterance, words)
    return texts.words


def incomplete(recordings: Mapping[str, int]) -> list[str]:
    """A warning if parts have other numbers of recordings than the published ones.

    Args:
        recordings: part -> number.
    """
    other = [
        f"{part} {recordings[part]} of {size}"
        for part, size in _SIZES.items()
        if part in recordings and recordings[part] != size
    ]
    if not other:
        return []
    return [f"warning: other numbers of recordings than published: {', '.join(other)}"]


# Recordings of the published parts.
_SIZES = {
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
}
