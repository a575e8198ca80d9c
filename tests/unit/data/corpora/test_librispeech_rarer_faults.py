# SPDX-License-Identifier: Apache-2.0
"""Rarer faults of LibriSpeech's layout, by their names in docs/data_format.md."""

from collections.abc import Callable
from pathlib import Path

import pytest

from espnet_objsoup.data.datadir import DataDirError

from ..factory import write_tone
from .faults import (
    FOREIGN,
    NO_AUDIO,
    NO_LINE,
    Fault,
    check_refused_in_stage_3,
    check_texts,
    documented,
)
from .speech_layouts import chapter, flac, make_librispeech, trans
from .test_librispeech import prepare

NO_TABLE = "without transcript: chapters that have no .trans.txt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_librispeech(tmp_path / "corpus")


def edit(change: Callable[[bytes], bytes]) -> Fault:
    """Change the first transcript of the training data."""
    return lambda root: trans(root).write_bytes(change(trans(root).read_bytes()))


def speakers_txt(root: Path) -> Path:
    return root / "LibriSpeech" / "SPEAKERS.TXT"


def pack(root: Path) -> None:
    trans(root).rename(trans(root).with_suffix(".txt.gz"))


def new_chapter(root: Path, *names: str) -> None:
    folder = chapter(root, "train-clean-100", "103", "9999")
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"audio")


def move_to_another_chapter(root: Path) -> None:
    new_chapter(root, "103-9999.trans.txt")
    (chapter(root, "train-clean-100", "103", "9999") / "103-9999.trans.txt").write_text("")
    flac(root).rename(chapter(root, "train-clean-100", "103", "9999") / flac(root).name)


# Fault -> what is done, remarks with their counts, rows and labels of train (6 and 6 before).
COUNTED: dict[str, tuple[Fault, dict[str, int], tuple[int, int]]] = {
    "tabs, several spaces, empty lines": (
        edit(lambda text: text.replace(b" ", b"\t ", 1).replace(b"\n", b" \n\n")),
        {},
        (6, 6),
    ),
    "control characters in a line": (
        edit(lambda text: text.replace(b"SAY", b"S\x00A\x1bY")),
        {},
        (6, 6),
    ),
    "utterance named with `.flac` in the transcript": (
        edit(lambda text: text.replace(b"103-1240-0000", b"103-1240-0000.flac")),
        {NO_LINE: 1, NO_AUDIO: 1},
        (6, 5),
    ),
    "packed or renamed transcript": (pack, {NO_TABLE: 1, NO_LINE: 3, FOREIGN: 1}, (6, 3)),
    "second transcript beside the first": (
        lambda root: (trans(root).with_name("103-1240.trans (1).txt")).write_text("x"),
        {FOREIGN: 1},
        (6, 6),
    ),
    "recording as wav, or named `.FLAC`": (
        lambda root: [
            flac(root).rename(flac(root).with_suffix(".wav")),
            flac(root, number=1).rename(flac(root, number=1).with_suffix(".FLAC")),
        ],
        {FOREIGN: 2, NO_AUDIO: 2},
        (4, 4),
    ),
    "recording in another chapter's folder": (
        move_to_another_chapter,
        {FOREIGN: 1, NO_AUDIO: 1},
        (5, 5),
    ),
    "chapter without recordings": (
        lambda root: [flac(root, number=i).unlink() for i in range(3)],
        {NO_AUDIO: 3},
        (3, 3),
    ),
    "empty chapter": (new_chapter, {NO_TABLE: 1}, (6, 6)),
    "reader with other digits (`0103/`)": (
        lambda root: flac(root).parents[1].rename(flac(root).parents[2] / "0103"),
        {FOREIGN: 4, NO_TABLE: 1, "warning: readers that SPEAKERS.TXT does not list": 1},
        (3, 3),
    ),
    "link to itself": (
        lambda root: (flac(root).unlink(), flac(root).symlink_to(flac(root))),
        {"left out: recordings that cannot be read (Too many levels of symbolic links)": 1},
        (5, 5),
    ),
    "empty `SPEAKERS.TXT`": (
        lambda root: speakers_txt(root).write_text(""),
        {"warning: readers that SPEAKERS.TXT does not list": 6},
        (6, 6),
    ),
    "names of `SPEAKERS.TXT` in another encoding": (
        lambda root: speakers_txt(root).write_bytes(
            speakers_txt(root).read_text().replace("Name", "Zoë").encode("cp1252")
        ),
        {},
        (6, 6),
    ),
}

REFUSED: dict[str, tuple[Fault, str]] = {
    "line ends of old Macs": (
        edit(lambda text: text.replace(b"\n", b"\r")),
        r"103-1240\.trans\.txt:1: expected lines that end in a line feed, found a carriage return",
    ),
    "carriage return within a line": (
        edit(lambda text: text.replace(b"SAY 103 1", b"SAY\r103 1")),
        r"103-1240\.trans\.txt:2: expected lines that end in a line feed, found a carriage return",
    ),
    "UTF-16, with or without byte order mark": (
        edit(lambda text: text.decode().encode("utf-16-le")),
        r"103-1240\.trans\.txt:1: expected an utterance of this chapter \(103-1240-0000\), found",
    ),
    "file, or a link that leads nowhere, in place of a part": (
        lambda root: [
            (root / "LibriSpeech" / "test-other").rename(root / "moved"),
            (root / "LibriSpeech" / "test-other").symlink_to("nowhere"),
        ],
        "test-other: expected a folder that can be read, found: No such file",
    ),
}


@pytest.mark.parametrize("fault", COUNTED)
def test_counted(root: Path, tmp_path: Path, fault: str) -> None:
    damage, remarks, (rows, labels) = COUNTED[fault]
    prepare(root, tmp_path / "whole")
    damage(root)
    written = prepare(root, tmp_path / "data")
    kinds = ("left out", "repaired", "without", "warning: readers")
    counts = {
        line.partition(" (such as ")[0] if "(Too" not in line else line.rpartition(" (such as ")[0]
        for line in written.remarks
        if line.startswith(kinds)
    }
    assert counts == {f"{what}: {count}" for what, count in remarks.items()}
    assert (written.rows["train"], written.objectives["train"]["asr/en"]) == (rows, labels)
    check_texts(tmp_path / "data", tmp_path / "whole")


@pytest.mark.parametrize("fault", REFUSED)
def test_refused(root: Path, tmp_path: Path, fault: str) -> None:
    damage, message = REFUSED[fault]
    damage(root)
    with pytest.raises(DataDirError, match=message):
        prepare(root, tmp_path / "data")
    assert not list(tmp_path.glob("data/*"))


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


AT_STAGE_3: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder in place of a recording": (make_folder, "103-1240-0000"),
    "recording that is something else (a page of HTML)": (
        lambda path: path.write_bytes(b"<html><body>404 Not Found</body></html>\n" * 9),
        "103-1240-0000",
    ),
}


@pytest.mark.parametrize("fault", AT_STAGE_3)
def test_refused_in_stage_3(root: Path, tmp_path: Path, fault: str) -> None:
    for path in root.glob("LibriSpeech/*/*/*/*.flac"):
        write_tone(path, 0.3, 16000)
    damage, message = AT_STAGE_3[fault]
    damage(flac(root))
    prepare(root, tmp_path / "data")
    check_refused_in_stage_3(
        tmp_path / "data", rf"1 of 6 utterances have unusable audio(.|\n)*{message}"
    )


def test_every_fault_is_documented() -> None:
    assert {*COUNTED, *REFUSED, *AT_STAGE_3} <= documented("LibriSpeech")
