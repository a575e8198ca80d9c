# SPDX-License-Identifier: Apache-2.0
"""LibriSpeech and AISHELL-1 in small: layouts with files that nobody decodes in stage 1."""

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

LIBRISPEECH_PARTS = {
    "train-clean-100": ("103", "1034"),
    "dev-clean": ("84",),
    "dev-other": ("116",),
    "test-clean": ("61",),
    "test-other": ("367",),
}
AISHELL_SPLITS = {"train": ("S0002", "S0003"), "dev": ("S0724",), "test": ("S0764",)}
TRANSCRIPT = "data_aishell/transcript/aishell_transcript_v0.8.txt"


def lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a folder unreadable, also for a user whom no permission stops; returns the message."""
    listed = os.scandir

    def scandir(path: object) -> object:
        if path == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return f"{folder}: expected a folder that can be read, found: Permission denied; check"


def chapter(root: Path, part: str, reader: str, number: str = "1240") -> Path:
    return root / "LibriSpeech" / part / reader / number


def trans(root: Path, part: str = "train-clean-100", reader: str = "103") -> Path:
    return chapter(root, part, reader) / f"{reader}-1240.trans.txt"


def flac(root: Path, part: str = "train-clean-100", reader: str = "103", number: int = 0) -> Path:
    return chapter(root, part, reader) / f"{reader}-1240-{number:04d}.flac"


def make_librispeech(root: Path) -> Path:
    """Two readers to train, one in each other part; a chapter of three utterances each."""
    table = ["; ID |SEX| SUBSET |MINUTES| NAME"]
    for part, readers in LIBRISPEECH_PARTS.items():
        for reader in readers:
            chapter(root, part, reader).mkdir(parents=True)
            lines = []
            for number in range(3):
                path = flac(root, part, reader, number)
                path.write_bytes(b"audio")
                lines.append(f"{path.stem} DON'T SAY {reader} {number}\n")
            trans(root, part, reader).write_text("".join(lines))
            table.append(f"{reader:<5}| F | {part:<16}| 1.00 | A | Name")
    (root / "LibriSpeech" / "SPEAKERS.TXT").write_text("\n".join(table) + "\n")
    return root


def wav(root: Path, split: str = "train", speaker: str = "S0002", number: int = 121) -> Path:
    folder = root / "data_aishell" / "wav" / split / speaker
    return folder / f"BAC009{speaker}W{number:04d}.wav"


def make_aishell(root: Path) -> Path:
    """Two speakers to train, one in each other split; two utterances each."""
    lines = []
    for split, speakers in AISHELL_SPLITS.items():
        for speaker in speakers:
            for number in (121, 122):
                path = wav(root, split, speaker, number)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"audio")
                lines.append(f"{path.stem} 那个 女人 看见 了 {speaker[-1]}\n")
    (root / TRANSCRIPT).parent.mkdir(parents=True)
    (root / TRANSCRIPT).write_text("".join(lines), encoding="utf-8")
    return root


def pack(root: Path, split: str, speaker: str) -> Path:
    """Put a speaker's folder into an archive beside the splits, as the corpus is published."""
    folder = root / "data_aishell" / "wav" / split / speaker
    archive = root / "data_aishell" / "wav" / f"{speaker}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, f"{split}/{speaker}")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return archive


def pack_all(root: Path) -> list[Path]:
    """All speakers in archives; no folder of a split is left."""
    archives = [
        pack(root, split, s) for split, speakers in AISHELL_SPLITS.items() for s in speakers
    ]
    for split in AISHELL_SPLITS:
        (root / "data_aishell" / "wav" / split).rmdir()
    return archives


def write_archive(path: Path, members: Iterable[tarfile.TarInfo]) -> None:
    """An archive of given members; files hold one byte."""
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = 1 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"x") if member.isreg() else None)
