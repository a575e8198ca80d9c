# SPDX-License-Identifier: Apache-2.0
"""Rarer faults of AISHELL-1's layout, by their names in docs/data_format.md."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from espnet_objsoup.data.datadir import DataDirError
from espnet_objsoup.data.download import DownloadError

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
from .speech_layouts import TRANSCRIPT, make_aishell, pack, wav, write_archive
from .test_aishell import prepare

NO_WORDS = "without transcript: recordings whose line has no words"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_aishell(tmp_path / "corpus")


def edit(change: Callable[[str], str]) -> Fault:
    """Change the transcript."""

    def damage(root: Path) -> None:
        text = change((root / TRANSCRIPT).read_text("utf-8"))
        (root / TRANSCRIPT).write_bytes(text.encode())

    return damage


def both_archives(root: Path) -> None:
    archive = pack(root, "train", "S0003")
    shutil.copyfile(archive, archive.with_name("S0003.tgz"))


def archive_beside_its_folder(root: Path) -> None:
    folder = wav(root, "train", "S0003").parent
    shutil.copytree(folder, root / "kept")
    pack(root, "train", "S0003").write_bytes(b"not looked at")
    (root / "kept").rename(folder)


def archive_of(*names: str) -> Fault:
    def damage(root: Path) -> None:
        infos = [tarfile.TarInfo(name) for name in names]
        for info in infos:
            if info.name.endswith("S0003"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
        write_archive(pack(root, "train", "S0003"), infos)

    return damage


# Fault -> what is done, remarks with their counts, rows and labels of train (4 and 4 before).
COUNTED: dict[str, tuple[Fault, dict[str, int], tuple[int, int]]] = {
    "lines in another order": (
        edit(lambda text: "".join(sorted(text.splitlines(True), key=lambda x: (x[13:], x)))),
        {},
        (4, 4),
    ),
    "empty lines": (edit(lambda text: text.replace("\n", "\n\n")), {}, (4, 4)),
    "utterance named with `.wav` in the transcript": (
        edit(lambda text: text.replace("W0121 ", "W0121.wav ", 1)),
        {NO_LINE: 1, NO_AUDIO: 1},
        (4, 3),
    ),
    "no space after the utterance": (
        edit(lambda text: text.replace("W0121 那个", "W0121那个", 1)),
        {NO_LINE: 1, NO_AUDIO: 1},
        (4, 3),
    ),
    "only wide spaces or punctuation for words": (
        edit(lambda text: text.replace("那个 女人 看见 了 2", "\u3000。", 1)),
        {NO_WORDS: 1},
        (4, 3),
    ),
    "recording named `.WAV`": (
        lambda root: wav(root).rename(wav(root).with_suffix(".WAV")),
        {FOREIGN: 1, NO_AUDIO: 1},
        (3, 3),
    ),
    "link that leads nowhere": (
        lambda root: (wav(root).unlink(), wav(root).symlink_to("nowhere")),
        {"left out: recordings that cannot be read (No such file or directory)": 1},
        (3, 3),
    ),
    "folder of a speaker with another name": (
        lambda root: wav(root).parent.rename(wav(root).parents[1] / "S2"),
        {FOREIGN: 1, NO_AUDIO: 2},
        (2, 2),
    ),
    "two archives of a speaker": (both_archives, {}, (4, 4)),
    "archive beside the speaker's folder": (archive_beside_its_folder, {}, (4, 4)),
    "archive with other files": (
        archive_of("train/S0003/BAC009S0003W0121.wav", "train/S0003/README"),
        {FOREIGN: 1, NO_AUDIO: 1},
        (3, 3),
    ),
    "archive without recordings": (archive_of("train/S0003"), {NO_AUDIO: 2}, (2, 2)),
}

REFUSED: dict[str, tuple[Fault, str]] = {
    "line ends of old Macs": (
        edit(lambda text: text.replace("\n", "\r")),
        r"v0\.8\.txt:1: expected lines that end in a line feed, found a carriage return",
    ),
    "empty transcript": (
        edit(lambda text: ""),
        "dev: expected at least one utterance, found none",
    ),
    "utterances in small letters": (
        edit(str.lower),
        r"v0\.8\.txt:1: expected `BAC009S0002W0122 <words>` in UTF-8, found b'bac009",
    ),
    "folder in place of the transcript": (
        lambda root: ((root / TRANSCRIPT).unlink(), (root / TRANSCRIPT).mkdir()),
        r"v0\.8\.txt: not found; expected the transcript",
    ),
    "zero-byte archive": (
        lambda root: pack(root, "train", "S0003").write_bytes(b""),
        r"S0003\.tar\.gz: expected a whole \.tar\.gz",
    ),
}


@pytest.mark.parametrize("fault", COUNTED)
def test_counted(root: Path, tmp_path: Path, fault: str) -> None:
    damage, remarks, (rows, labels) = COUNTED[fault]
    prepare(root, tmp_path / "whole")
    damage(root)
    written = prepare(root, tmp_path / "data")
    counts = {
        line.rpartition(" (such as ")[0]
        for line in written.remarks
        if line.startswith(("left out", "repaired", "without"))
    }
    assert counts == {f"{what}: {count}" for what, count in remarks.items()}
    assert (written.rows["train"], written.objectives["train"]["asr/zh"]) == (rows, labels)
    assert (written.rows["dev"], written.rows["test"]) == (2, 2)
    check_texts(tmp_path / "data", tmp_path / "whole")


@pytest.mark.parametrize("fault", REFUSED)
def test_refused(root: Path, tmp_path: Path, fault: str) -> None:
    damage, message = REFUSED[fault]
    damage(root)
    with pytest.raises((DataDirError, DownloadError), match=message):
        prepare(root, tmp_path / "data")
    assert not list(tmp_path.glob("data/*"))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


AT_STAGE_3: dict[str, Callable[[Path], object]] = {
    "recording cut off": cut_off,
    "folder in place of a recording": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("fault", AT_STAGE_3)
def test_refused_in_stage_3(root: Path, tmp_path: Path, fault: str) -> None:
    for path in root.glob("data_aishell/wav/*/*/*.wav"):
        write_tone(path, 0.3, 16000)
    AT_STAGE_3[fault](wav(root))
    prepare(root, tmp_path / "data")
    check_refused_in_stage_3(
        tmp_path / "data", r"1 of 4 utterances have unusable audio(.|\n)*S0002W0121"
    )


def test_every_fault_is_documented() -> None:
    assert {*COUNTED, *REFUSED, *AT_STAGE_3} <= documented("AISHELL-1")
