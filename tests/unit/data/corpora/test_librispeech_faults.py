# SPDX-License-Identifier: Apache-2.0
"""The faults of LibriSpeech's layout in docs/data_format.md: repaired and counted, or refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio import AudioFormat, format_audio
from espnet_objsoup.data.datadir import DataDirError

from ..factory import write_tone
from .faults import Fault
from .speech_layouts import chapter, flac, lock, make_librispeech, trans
from .test_librispeech import prepare


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_librispeech(tmp_path / "corpus")


def edit(change: Callable[[bytes], bytes]) -> Fault:
    """Change the first transcript of the training data."""
    return lambda root: trans(root).write_bytes(change(trans(root).read_bytes()))


def nested(root: Path) -> None:
    (root / "LibriSpeech").rename(root / "inner")
    (root / "LibriSpeech").mkdir()
    (root / "inner").rename(root / "LibriSpeech" / "LibriSpeech")


# Fault -> what is done to the corpus, the remark with its count, rows and labels of train.
REPAIRED = {
    "missing_trans_txt": (
        lambda root: trans(root).unlink(),
        "without transcript: chapters that have no .trans.txt: 1",
        (6, 3),
    ),
    "line_without_text": (
        edit(lambda text: text.replace(b" DON'T SAY 103 0", b"")),
        "without transcript: recordings whose line has no words: 1",
        (6, 5),
    ),
    "audio_without_line": (
        edit(lambda text: text.split(b"\n", 1)[1]),
        "without transcript: recordings that no transcript mentions: 1",
        (6, 5),
    ),
    "line_without_audio": (
        lambda root: flac(root).unlink(),
        "left out: lines of transcripts without a recording: 1",
        (5, 5),
    ),
    "line_twice": (
        edit(lambda text: text + text.split(b"\n", 1)[0] + b"\n"),
        "repaired: repeated lines of transcripts: 1",
        (6, 6),
    ),
    "byte_order_mark": (
        edit(lambda text: b"\xef\xbb\xbf" + text),
        "repaired: transcripts that begin with a byte order mark: 1",
        (6, 6),
    ),
    "windows_line_ends": (
        edit(lambda text: text.replace(b"\n", b"\r\n")),
        "repaired: transcripts with Windows line ends: 1",
        (6, 6),
    ),
    "another_script": (
        edit(lambda text: text.replace(b"DON'T SAY 103 0", "那个女人".encode())),
        "without transcript: recordings whose line has no Latin letter: 1",
        (6, 5),
    ),
    "empty_file": (
        lambda root: flac(root).write_bytes(b""),
        "left out: recordings that are empty files: 1",
        (5, 5),
    ),
    "broken_link": (
        lambda root: (flac(root).unlink(), flac(root).symlink_to("nowhere")),
        "left out: recordings that cannot be read (No such file or directory): 1",
        (5, 5),
    ),
    "foreign_files": (
        lambda root: [
            (chapter(root, "train-clean-100", "103") / name).write_bytes(b"x")
            for name in ("._103-1240-0000.flac", ".DS_Store", "103-1241-0000.flac")
        ],
        "left out: files and folders that are not the corpus': 3",
        (6, 6),
    ),
    "no_speakers_txt": (
        lambda root: (root / "LibriSpeech" / "SPEAKERS.TXT").unlink(),
        "warning: no table of readers, their parts are not compared with it: 1",
        (6, 6),
    ),
    "speakers_txt_disagrees": (
        lambda root: (root / "LibriSpeech" / "SPEAKERS.TXT").write_text(
            "103 | F | dev-clean | 1.00 | N\n"
        ),
        "warning: readers that SPEAKERS.TXT lists in another part: 1",
        (6, 6),
    ),
    "nested_root": (nested, "", (6, 6)),
    "lower_case": (edit(bytes.lower), "", (6, 6)),
}


@pytest.mark.parametrize("fault", REPAIRED)
def test_repaired_and_counted(root: Path, tmp_path: Path, fault: str) -> None:
    damage, remark, (rows, labels) = REPAIRED[fault]
    expected = prepare(root, tmp_path / "whole").rows
    damage(root)
    written = prepare(root, tmp_path / "data")
    remarks = [line for line in written.remarks if "than published" not in line]
    if remark:
        assert any(line.startswith(f"{remark} (such as {root}") for line in remarks), remarks
    else:
        assert remarks == []
    assert (written.rows["train"], written.objectives["train"]["asr/en"]) == (rows, labels)
    assert {**written.rows, "train": expected["train"]} == expected
    data = datadir.read(tmp_path / "data" / "train")
    whole = datadir.read(tmp_path / "whole" / "train")
    # What is left says what it said before.
    for utterance, text in data.columns["text"].items():
        assert text in (whole.columns["text"][utterance], "<na>")


def second_reader(root: Path) -> None:
    """The reader of the training data in dev-clean as well."""
    source = root / "LibriSpeech" / "train-clean-100" / "103"
    shutil.copytree(source, root / "LibriSpeech" / "dev-clean" / "103")


def copied_reader(root: Path) -> None:
    """A reader of train-clean-100 once more in train-clean-360."""
    source = root / "LibriSpeech" / "train-clean-100" / "103"
    shutil.copytree(source, root / "LibriSpeech" / "train-clean-360" / "103")


def no_readers(root: Path) -> None:
    shutil.rmtree(root / "LibriSpeech" / "dev-other")
    (root / "LibriSpeech" / "dev-other").mkdir()


REFUSED = {
    "text_twice": (
        edit(lambda text: text + b"103-1240-0000 OTHER WORDS\n"),
        r"103-1240\.trans\.txt:4: expected each utterance once, found 103-1240-0000 in line 1",
    ),
    "line_of_another_chapter": (
        edit(lambda text: text + b"103-1241-0000 WORDS\n"),
        r"103-1240\.trans\.txt:4: expected an utterance of this chapter \(103-1240-0000\), found",
    ),
    "not_utf8": (
        edit(lambda text: text.replace(b"SAY 103 1", b"SAY \xe9")),
        r"103-1240\.trans\.txt:2: expected UTF-8, found byte 0xe9; convert",
    ),
    "reader_in_two_splits": (
        second_reader,
        "speaker 103: expected in one of train, dev and test, found in .*train-clean-100/103 and in"
        " .*dev-clean/103",
    ),
    "recording_in_two_parts": (copied_reader, "expected each utterance once, found it in"),
    "absent_part": (
        lambda root: shutil.rmtree(root / "LibriSpeech" / "test-other"),
        "test-other: expected a part of LibriSpeech, found nothing",
    ),
    "part_without_readers": (no_readers, "dev-other: expected folders of readers"),
    "no_corpus": (
        lambda root: (root / "LibriSpeech").rename(root / "other"),
        "corpus: expected LibriSpeech/train-clean-100 and the like in it",
    ),
    "no_usable_recording": (
        lambda root: [flac(root, "dev-other", "116", i).write_bytes(b"") for i in range(3)],
        "dev_other: expected at least one utterance, found none",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refused(root: Path, tmp_path: Path, fault: str) -> None:
    damage, message = REFUSED[fault]
    damage(root)
    options = {"train_subset": "460"} if fault == "recording_in_two_parts" else {}
    with pytest.raises(DataDirError, match=message):
        prepare(root, tmp_path / "data", **options)
    assert not list(tmp_path.glob("data/*"))


@pytest.mark.parametrize("level", ["part", "reader", "chapter"])
def test_unreadable_folder_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    leaf = chapter(root, "train-clean-100", "103")
    locked = {"part": leaf.parents[1], "reader": leaf.parent, "chapter": leaf}[level]
    message = lock(locked, monkeypatch)
    with pytest.raises(DataDirError, match=message):
        prepare(root, tmp_path / "data")
    assert not list(tmp_path.glob("data/*"))


def test_unreadable_transcript_is_refused(root: Path, tmp_path: Path) -> None:
    trans(root).unlink()
    trans(root).mkdir()
    with pytest.raises(DataDirError, match="expected a transcript that can be read, found: Is a"):
        prepare(root, tmp_path / "data")


def test_all_problems_are_listed_at_once(root: Path, tmp_path: Path) -> None:
    for part, reader in (("train-clean-100", "103"), ("dev-clean", "84"), ("test-other", "367")):
        trans(root, part, reader).write_bytes(b"\xff\n")
    with pytest.raises(DataDirError) as refused:
        prepare(root, tmp_path / "data")
    assert str(refused.value).count("expected UTF-8") == 3


def formatted(root: Path, tmp_path: Path) -> datadir.DataDir:
    for path in root.glob("LibriSpeech/*/*/*/*.flac"):
        if not path.stat().st_size > 100:
            write_tone(path, 0.3, 16000)
    prepare(root, tmp_path / "data")
    data = datadir.read(tmp_path / "data" / "train")
    return format_audio(data, tmp_path / "dump", AudioFormat(), 1)


def test_another_sample_rate_is_resampled_in_stage_3(root: Path, tmp_path: Path) -> None:
    write_tone(flac(root), 0.5, 44100)
    data = formatted(root, tmp_path)
    assert abs(int(data.columns["utt2num_samples"]["103-1240-0000"]) - 8000) <= 1
    # Files that have the rate already stay where they are.
    assert data.columns["wav.scp"]["103-1240-0001"] == str(flac(root, number=1))
    assert data.columns["wav.scp"]["103-1240-0000"] != str(flac(root))


def test_truncated_recording_is_refused_in_stage_3(root: Path, tmp_path: Path) -> None:
    write_tone(flac(root), 0.5, 16000)
    flac(root).write_bytes(flac(root).read_bytes()[:-2000])
    with pytest.raises(DataDirError, match=r"1 of 6 utterances have unusable audio.*\n.*cut off"):
        formatted(root, tmp_path)
