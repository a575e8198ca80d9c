# SPDX-License-Identifier: Apache-2.0
"""AISHELL-1.

Layout: `data_aishell/wav/<split>/S????/BAC009S????W????.wav` and
`data_aishell/transcript/aishell_transcript_v0.8.txt` with lines `<utterance> <words>`. As published
it holds `data_aishell/wav/S????.tar.gz` instead, an archive per speaker; those that have no folder
yet are unpacked into a folder of the recipe.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_objsoup.data.corpora.aishell_archives import unpack_speakers
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

SPLITS = ("train", "dev", "test")
# Names of the corpus' parts where those of another corpus are beside them.
PART_OF = {split: f"aishell-{split}" for split in SPLITS}
SPLIT_OF = {part: split for split, part in PART_OF.items()}
TRANSCRIPT = "aishell_transcript_v0.8.txt"
# Recordings of the published corpus; some have no transcript.
PUBLISHED_RECORDINGS = 141_925
_SPEAKER = re.compile(r"S\d{4}")
_UTTERANCE = re.compile(r"BAC\d{3}(?P<speaker>S\d{4})W\d{4}")


@dataclass(frozen=True)
class AishellConfig:
    """What to prepare.

    Attributes:
        root: folder that contains `data_aishell/`, or that folder itself.
        unpack_dir: where archives of speakers are unpacked.
        asr_policy: text policy.
    """

    root: Path
    unpack_dir: Path
    asr_policy: str = "lc.rm"


@dataclass(frozen=True)
class Run:
    """Neighbouring lines of the transcript that belong to one speaker.

    Attributes:
        offset, length: of their bytes.
        first_line: number of the first one.
        lines: how many.
    """

    offset: int
    length: int
    first_line: int
    lines: int


def find_root(directory: Path) -> Path:
    """The folder with `wav/`, where one level more or less was named.

    Raises:
        DataDirError: if there is none.
    """
    root = find_top(directory, "data_aishell", lambda root: (root / "wav").is_dir())
    if root is not None:
        return root
    raise DataDirError(
        f"{directory}: expected data_aishell/wav/ in it, found none; name the folder that contains "
        "data_aishell/, or fetch the corpus (prepare it with --download true)"
    )


def open_corpus(config: AishellConfig, n_jobs: int, alone: bool = True) -> Corpus:
    """The corpus, ready to be read; unpacks archives of speakers.

    Args:
        config: what to prepare.
        n_jobs: processes that unpack.
        alone: whether its test data are called `test`, or `aishell_test` beside those of another
            corpus.

    Raises:
        DataDirError: if the transcript or splits are missing or unreadable, or an archive holds
            something else than a speaker.
        DownloadError: if an archive is damaged or not safe to unpack.
        OSError: if there is no space to unpack.
    """
    root = find_root(config.root)
    findings = Findings()
    table = root / "transcript" / TRANSCRIPT
    runs = index_transcript(table, findings)
    findings.raise_problems()
    folders = _find_folders(root / "wav", config.unpack_dir, n_jobs, findings)
    for speaker in sorted(runs.keys() - folders.keys()):
        findings.note(
            "left out: lines of transcripts without a recording",
            f"{table}:{runs[speaker][0].first_line}",
            sum(run.lines for run in runs[speaker]),
        )
    train, dev, test = PART_OF.values()
    directories = {"train": (train,), "dev": (dev,), "test": (test,)}
    if not alone:
        directories = {"train": (train,), "dev": (dev,), "aishell_dev": (dev,)}
        directories["aishell_test"] = (test,)
    return Corpus(
        speakers=[
            Speaker(
                speaker,
                parts,
                functools.partial(
                    read_speaker, speaker, parts, table, runs.get(speaker, ()), config.asr_policy
                ),
            )
            for speaker, parts in folders.items()
        ],
        findings=findings,
        split_of=SPLIT_OF,
        directories=directories,
        incomplete=incomplete,
    )


def _find_folders(
    wav: Path, unpack_dir: Path, n_jobs: int, findings: Findings
) -> dict[str, dict[str, Path]]:
    """Folders of all speakers; where there are none, their archives are unpacked first."""
    folders = _folders(wav, findings)
    findings.raise_problems()
    # What the corpus itself holds comes first; of the folder, which other corpora may have been
    # unpacked into, only what is made of this one's archives counts.
    for speaker, splits in unpack_speakers(wav, unpack_dir, set(folders), n_jobs).items():
        folders[speaker] = {PART_OF[split]: path for split, path in splits.items()}
    for split, part in PART_OF.items():
        if not any(part in parts for parts in folders.values()):
            findings.problems.append(
                f"{wav / split}: expected folders of speakers such as S0002/, or archives "
                f"S????.tar.gz of them in {wav}, found none; unpack the corpus again"
            )
    findings.raise_problems()
    return folders


def _folders(wav: Path, findings: Findings) -> dict[str, dict[str, Path]]:
    """Speaker -> part of the corpus -> folder with recordings."""
    folders: dict[str, dict[str, Path]] = {}
    for split, part in PART_OF.items():
        if not (wav / split).exists():
            continue
        for entry in entries(wav / split, findings):
            if _SPEAKER.fullmatch(entry.name) and entry.is_dir():
                folders.setdefault(entry.name, {})[part] = wav / split / entry.name
            else:
                findings.note("left out: files and folders that are not the corpus'", entry.path)
    return folders


def index_transcript(path: Path, findings: Findings) -> dict[str, tuple[Run, ...]]:
    """Where each speaker's lines are; the texts are not kept.

    Raises:
        DataDirError: if there is no transcript.
    """
    if not path.is_file():
        raise DataDirError(
            f"{path}: not found; expected the transcript of AISHELL-1 there, unpack "
            "data_aishell.tgz again"
        )
    runs: dict[str, list[Run]] = {}
    previous, offset = "", 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            match = _UTTERANCE.match(line[:40].decode("utf-8", errors="replace").lstrip("\ufeff"))
            if match is not None:
                speaker = match["speaker"]
                found = runs.setdefault(speaker, [])
                # A first line may begin with a byte order mark, which belongs to the run.
                run = found.pop() if speaker == previous else Run(offset, 0, number, 0)
                length = offset + len(line) - run.offset
                found.append(Run(run.offset, length, run.first_line, number - run.first_line + 1))
                previous = speaker
            elif line.strip():
                findings.problems.append(
                    f"{path}:{number}: expected `BAC009S0002W0122 <words>` in UTF-8, found "
                    f"{line[:60]!r}; unpack the transcript again"
                )
                findings.raise_if_many()
                previous = ""
            offset += len(line)
    return {speaker: tuple(found) for speaker, found in runs.items()}


def read_speaker(
    speaker: str,
    parts: Mapping[str, Path],
    table: Path,
    runs: tuple[Run, ...],
    policy: str,
) -> Reading:
    """Read the recordings of a speaker.

    Args:
        speaker: such as `S0002`.
        parts: part of the corpus -> the speaker's folder there.
        table: transcript of the corpus.
        runs: the speaker's lines in it.
        policy: text policy.

    Returns:
        Utterances in the order of their ids.
    """
    reading = Reading()
    findings = reading.findings
    texts = _read_texts(table, runs, findings)
    seen: set[str] = set()
    for part, folder in parts.items():
        for entry in entries(folder, findings):
            name = entry.name.removesuffix(".wav")
            match = _UTTERANCE.fullmatch(name)
            if match is None or name == entry.name:
                findings.note("left out: files and folders that are not the corpus'", entry.path)
                continue
            if match["speaker"] != speaker:
                findings.problems.append(
                    f"{entry.path}: expected a recording of {speaker}, found one of "
                    f"{match['speaker']}; unpack the speaker's archive again"
                )
                continue
            seen.add(name)
            reading.recordings[part] += 1
            reading.expected[part] += 1
            if usable_audio(entry, findings):
                text = transcript(texts.get(name), "zh", policy, entry.path, findings)
                reading.usable[part] += text != NO_VALUE
                item = Utterance(name, speaker, str(folder / entry.name), "zh", text)
                reading.utterances.append((part, item))
    for utterance in sorted(texts.keys() - seen):
        findings.note("left out: lines of transcripts without a recording", f"{table}: {utterance}")
    reading.expected[next(iter(parts))] += len(texts.keys() - seen)  # a speaker is in one part
    return reading


def _read_texts(table: Path, runs: tuple[Run, ...], findings: Findings) -> dict[str, str]:
    texts = Texts(table, findings)
    with open(table, "rb") as file:
        for run in runs:
            file.seek(run.offset)
            content = file.read(run.length)
            for number, utterance, words in read_lines(content, table, findings, run.first_line):
                texts.add(number, utterance, words)
    return texts.words


def incomplete(recordings: Mapping[str, int]) -> list[str]:
    """A warning if there is another number of recordings than published.

    Args:
        recordings: part -> number.
    """
    found = sum(recordings.get(part, 0) for part in SPLIT_OF)
    if found == PUBLISHED_RECORDINGS:
        return []
    return [
        f"warning: AISHELL-1: expected {PUBLISHED_RECORDINGS} recordings as published, found "
        f"{found}"
    ]
