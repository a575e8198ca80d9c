# SPDX-License-Identifier: Apache-2.0
import io
import tarfile
from importlib.resources import files
from pathlib import Path

import pytest

from espnet_objsoup.data.corpora.an4 import prepare, unpack
from espnet_objsoup.data.datadir import DataDirError


def test_the_utterances_in_espnet(tmp_path: Path) -> None:
    archive = files("egs3") / "mini_an4" / "esp2_asr" / "downloads.tar.gz"
    splits = prepare(unpack(Path(str(archive)), tmp_path))
    assert {split: len(data.utterances) for split, data in splits.items()} == {
        "train": 5,
        "test": 2,
    }
    train = splits["train"]
    assert train.columns["text"]["fbbh-cen8-fbbh-b"] == "march third nineteen twenty eight"
    assert all(Path(path).exists() for path in train.columns["wav.scp"].values())
    assert set(train.columns["utt2lang"].values()) == {"en"}


def test_archive_members_outside_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("../outside")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(tarfile.OutsideDestinationError):
        unpack(tmp_path / "bad.tar.gz", tmp_path / "out")
    assert not (tmp_path / "outside").exists()


def test_missing_transcript_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "an4_train.fileids").write_text("a/x/one\n")
    (tmp_path / "etc" / "an4_train.transcription").write_text("<s> YES </s> (two)\n")
    with pytest.raises(DataDirError, match=r"an4_train\.fileids:1: no audio"):
        prepare(tmp_path)
