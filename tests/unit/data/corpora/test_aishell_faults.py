# SPDX-License-Identifier: Apache-2.0
"""The faults of AISHELL-1's layout in docs/data_format.md: repaired and counted, or refused."""

import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio import AudioFormat, format_audio
from espnet_objsoup.data.datadir import DataDirError
from espnet_objsoup.data.download import DownloadError

from ..factory import write_tone
from .faults import Fault
from .speech_layouts import TRANSCRIPT, lock, make_aishell, pack, pack_all, wav, write_archive
from .test_aishell import prepare


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_aishell(tmp_path / "corpus")


def edit(change: Callable[[str], str], encoding: str = "utf-8") -> Fault:
    """Change the transcript."""

    def damage(root: Path) -> None:
        text = (root / TRANSCRIPT).read_text("utf-8")
        (root / TRANSCRIPT).write_bytes(change(text).encode(encoding))

    return damage


def nested(root: Path) -> None:
    (root / "data_aishell").rename(root / "inner")
    (root / "data_aishell").mkdir()
    (root / "inner").rename(root / "data_aishell" / "data_aishell")


REPAIRED = {
    "audio_without_transcript": (
        edit(lambda text: text.split("\n", 1)[1]),
        "without transcript: recordings that no transcript mentions: 1",
        (4, 3),
    ),
    "transcript_without_audio": (
        lambda root: wav(root).unlink(),
        "left out: lines of transcripts without a recording: 1",
        (3, 3),
    ),
    "speaker_without_audio": (
        lambda root: shutil.rmtree(wav(root).parent),
        "left out: lines of transcripts without a recording: 2",
        (2, 2),
    ),
    "line_without_text": (
        edit(lambda text: text.replace(" 那个 女人 看见 了 2", "", 1)),
        "without transcript: recordings whose line has no words: 1",
        (4, 3),
    ),
    "latin_script": (
        edit(lambda text: text.replace("那个 女人 看见 了 2", "na ge nu ren", 1)),
        "without transcript: recordings whose line has no Chinese character: 1",
        (4, 3),
    ),
    "line_twice": (
        edit(lambda text: text + text.split("\n", 1)[0] + "\n"),
        "repaired: repeated lines of transcripts: 1",
        (4, 4),
    ),
    "byte_order_mark": (
        edit(lambda text: "\ufeff" + text),
        "repaired: transcripts that begin with a byte order mark: 1",
        (4, 4),
    ),
    "windows_line_ends": (
        edit(lambda text: text.replace("\n", "\r\n")),
        "repaired: transcripts with Windows line ends: 4",
        (4, 4),
    ),
    "empty_file": (
        lambda root: wav(root).write_bytes(b""),
        "left out: recordings that are empty files: 1",
        (3, 3),
    ),
    "foreign_files": (
        lambda root: [
            (wav(root).parent / name).write_bytes(b"x")
            for name in ("._BAC009S0002W0121.wav", "Thumbs.db", "BAC009S0002W0121.wav.bak")
        ],
        "left out: files and folders that are not the corpus': 3",
        (4, 4),
    ),
    "archives_not_unpacked": (pack_all, "", (4, 4)),
    "nested_root": (nested, "", (4, 4)),
    "spaces_and_tabs": (edit(lambda text: text.replace(" ", "\t ")), "", (4, 4)),
}


@pytest.mark.parametrize("fault", REPAIRED)
def test_repaired_and_counted(root: Path, tmp_path: Path, fault: str) -> None:
    damage, remark, (rows, labels) = REPAIRED[fault]
    prepare(root, tmp_path / "whole")
    damage(root)
    written = prepare(root, tmp_path / "data")
    remarks = [line for line in written.remarks if "as published" not in line]
    if remark:
        assert any(line.startswith(f"{remark} (such as {root}") for line in remarks), remarks
    else:
        assert remarks == []
    assert (written.rows["train"], written.objectives["train"]["asr/zh"]) == (rows, labels)
    assert (written.rows["dev"], written.rows["test"]) == (2, 2)
    whole = datadir.read(tmp_path / "whole" / "train")
    for utterance, text in datadir.read(tmp_path / "data" / "train").columns["text"].items():
        assert text in (whole.columns["text"][utterance], "<na>")


def members(*names: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Fault:
    """An archive of S0003 with its own recording and others in place of its folder."""

    def damage(root: Path) -> None:
        archive = pack(root, "train", "S0003")
        infos = [tarfile.TarInfo("train/S0003/BAC009S0003W0121.wav")]
        for name in names:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            infos.append(info)
        write_archive(archive, infos)

    return damage


def truncated(root: Path) -> None:
    archive = pack(root, "train", "S0003")
    archive.write_bytes(archive.read_bytes()[:-20])


def another_speaker(root: Path) -> None:
    archive = pack(root, "train", "S0003")
    archive.rename(archive.with_name("S0004.tar.gz"))


def speaker_in_two_splits(root: Path) -> None:
    shutil.copytree(wav(root).parent, root / "data_aishell" / "wav" / "test" / "S0002")


REFUSED = {
    "no_transcript": (
        lambda root: (root / TRANSCRIPT).unlink(),
        r"aishell_transcript_v0\.8\.txt: not found; expected the transcript",
    ),
    "text_twice": (
        edit(lambda text: text + "BAC009S0002W0121 别的\n"),
        r"v0\.8\.txt:9: expected each utterance once, found BAC009S0002W0121 in line 1",
    ),
    "gbk": (
        edit(lambda text: text, "gb18030"),
        r"v0\.8\.txt:1: expected UTF-8, found byte 0xc4; convert the file",
    ),
    "utf16": (edit(lambda text: text, "utf-16"), r"v0\.8\.txt:1: expected `BAC009S0002W0122 <w"),
    "malformed_id": (
        edit(lambda text: text.replace("BAC009S0002W0122", "S2W122")),
        r"v0\.8\.txt:2: expected `BAC009S0002W0122 <words>` in UTF-8, found b'S2W122",
    ),
    "audio_of_another_speaker": (
        lambda root: wav(root).rename(wav(root).with_name("BAC009S0003W0300.wav")),
        r"BAC009S0003W0300\.wav: expected a recording of S0002, found one of S0003",
    ),
    "speaker_in_two_splits": (
        speaker_in_two_splits,
        "speaker S0002: expected in one of train, dev and test, found in .*train/S0002 and in "
        ".*test/S0002",
    ),
    "absent_split": (
        lambda root: shutil.rmtree(root / "data_aishell" / "wav" / "dev"),
        "wav/dev: expected folders of speakers such as S0002/, or archives",
    ),
    "no_corpus": (
        lambda root: (root / "data_aishell").rename(root / "other"),
        "corpus: expected data_aishell/wav/ in it, found none",
    ),
    "truncated_archive": (truncated, r"S0003\.tar\.gz: expected a whole \.tar\.gz, found a dam"),
    "archive_with_parent": (
        members("../outside.wav"),
        r"S0003\.tar\.gz: expected files and directories below its top, found '\.\./outside\.wav'",
    ),
    "archive_with_absolute_path": (members("/tmp/outside.wav"), "below its top, found '/tmp/outs"),
    "archive_with_link": (
        members("train/S0003/link.wav", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        r"found 'train/S0003/link\.wav', a link or device; it is not unpacked",
    ),
    "archive_with_device": (
        members("train/S0003/null.wav", kind=tarfile.CHRTYPE),
        "a link or device; it is not unpacked",
    ),
    "archive_of_another_speaker": (
        another_speaker,
        r"S0004\.tar\.gz: expected <split>/S0004/\*\.wav with .* in it, found train/S0003",
    ),
    "archive_of_two_splits": (
        members("test/S0003/BAC009S0003W0122.wav"),
        r"S0003\.tar\.gz: expected <split>/S0003/.* found test/S0003, train/S0003",
    ),
}


def content(root: Path) -> Iterable[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fault", REFUSED)
def test_refused(root: Path, tmp_path: Path, fault: str) -> None:
    damage, message = REFUSED[fault]
    damage(root)
    with pytest.raises((DataDirError, DownloadError), match=message):
        prepare(root, tmp_path / "data")
    assert not list(tmp_path.glob("data/*"))
    # Nothing of an archive that is refused stays, inside or outside.
    assert content(tmp_path) == content(root)


def test_unreadable_folder_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = lock(wav(root).parent, monkeypatch)
    with pytest.raises(DataDirError, match=message):
        prepare(root, tmp_path / "data")


def test_another_sample_rate_is_resampled_in_stage_3(root: Path, tmp_path: Path) -> None:
    for path in root.glob("data_aishell/wav/*/*/*.wav"):
        write_tone(path, 0.5, 8000 if path == wav(root) else 16000)
    prepare(root, tmp_path / "data")
    data = datadir.read(tmp_path / "data" / "train")
    done = format_audio(data, tmp_path / "dump", AudioFormat(), 1)
    assert set(done.columns["utt2num_samples"].values()) == {"8000"}
