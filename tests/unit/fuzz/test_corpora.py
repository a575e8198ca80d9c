# SPDX-License-Identifier: Apache-2.0
"""Tables of Common Voice and CoVoST 2, transcripts of LibriSpeech and AISHELL-1, archives."""

import io
import re
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_objsoup.data.corpora import aishell, librispeech
from espnet_objsoup.data.corpora.clip_index import ClipIndex
from espnet_objsoup.data.corpora.covost2_labels import LabelReader
from espnet_objsoup.data.corpora.covost2_report import Report
from espnet_objsoup.data.corpora.findings import Findings
from espnet_objsoup.data.corpora.transcripts import Texts, read_lines, transcript
from espnet_objsoup.data.corpora.tsv import read_rows
from espnet_objsoup.data.datadir import DataDirError
from espnet_objsoup.data.download import DownloadError, unpack

from . import contents, damaged, directory, fuzz, outcome, texts

TABLE = (
    b'client_id\tpath\tsentence\tup_votes\nabc\ta.mp3\tHello there.\t2\ndef\tb.mp3\t"Say ""no"".'
    b'"\t2\nghi\tc.mp3\tBonjour.\t0\n'
)
PAIR = b"path\ttranslation\tsplit\na.mp3\tHello.\ttrain\nb.mp3\tNo.\tdev\nc.mp3\tGood day.\ttest\n"


@fuzz()
@given(st.one_of(contents, damaged(TABLE)))
def test_table_of_common_voice(content: bytes) -> None:
    columns = ["path", "client_id", "sentence"]
    with directory() as folder:
        path = folder / "validated.tsv"
        path.write_bytes(content)
        rows = outcome(
            lambda: list(read_rows(path, columns, Counter(), Counter())),
            DataDirError,
            re.escape(str(path)),
        )
        for number, row in rows or []:
            assert number > 1
            assert len(row) == 3


@fuzz(2)
@given(st.one_of(contents, damaged(PAIR)), st.one_of(st.just(TABLE), damaged(TABLE)))
def test_labels_of_covost2(pair: bytes, validated: bytes) -> None:
    with directory() as folder:
        (folder / "covost_v2.fr_en.tsv").write_bytes(pair)
        (folder / "validated.tsv").write_bytes(validated)
        reader = LabelReader("fr", folder, folder, ["en"], "tc", Report())
        with ClipIndex(folder / "index", new=True) as index:
            # A clip's splits may contradict each other without any one line being wrong.
            place = rf"{re.escape(str(folder))}|^fr: expected one split per clip"
            if outcome(lambda: [reader.read(index)], DataDirError, place):
                for clip, split, _, translations in index.labelled_clips():
                    assert clip
                    assert "/" not in clip
                    assert split in ("train", "dev", "test")
                    assert all("\n" not in text for text in translations.values())


LIBRISPEECH = b"103-1240-0000 CHAPTER ONE\n103-1240-0001 THAT HAD\n"
AISHELL = (
    "BAC009S0002W0122 而 对 楼市\nBAC009S0002W0123 也 成为\nBAC009S0003W0122 自 六月\n".encode()
)


@fuzz()
@given(st.one_of(contents, damaged(LIBRISPEECH)), st.sampled_from(["en", "zh"]))
def test_transcript(content: bytes, lang: str) -> None:
    findings = Findings()
    path = Path("x.trans.txt")
    seen = Texts(path, findings)
    for number, utterance, words in read_lines(content, path, findings):
        seen.add(number, utterance, words)
        text = transcript(words, lang, "lc.rm", f"{path}:{number}", findings)
        # What may stand in a data directory.
        assert text.strip() == text != ""
        assert len(text.splitlines()) == 1
    assert all(re.match(r"x\.trans\.txt:\d+: expected", problem) for problem in findings.problems)


@fuzz()
@given(st.one_of(contents, damaged(LIBRISPEECH)), st.one_of(contents, st.just(b"103|F|x|\n")))
def test_chapter_of_librispeech(content: bytes, speakers: bytes) -> None:
    with directory() as folder:
        chapter = folder / "103" / "1240"
        chapter.mkdir(parents=True)
        (chapter / "103-1240.trans.txt").write_bytes(content)
        (chapter / "103-1240-0000.flac").write_bytes(b"fLaC")
        (folder / "SPEAKERS.TXT").write_bytes(speakers)
        parts = {"dev-clean": folder / "103"}
        librispeech._compare_with_table(folder / "SPEAKERS.TXT", {"103": parts}, Findings())
        reading = librispeech.read_reader("103", parts, frozenset(parts), "lc.rm")
        assert len(reading.utterances) <= 1
        assert all(str(folder) in problem for problem in reading.findings.problems)


@fuzz()
@given(st.one_of(contents, damaged(AISHELL)))
def test_transcript_of_aishell(content: bytes) -> None:
    with directory() as folder:
        path = folder / aishell.TRANSCRIPT
        path.write_bytes(content)
        findings = Findings()
        runs = outcome(
            lambda: aishell.index_transcript(path, findings), DataDirError, re.escape(str(path))
        )
        assert all(f"{path}:" in problem for problem in findings.problems)
        for speaker, of_speaker in (runs or {}).items():
            (folder / speaker).mkdir()
            reading = aishell.read_speaker(
                speaker, {"aishell-dev": folder / speaker}, path, of_speaker, "lc.rm"
            )
            assert reading.utterances == []
            assert all(f"{path}:" in problem for problem in reading.findings.problems)


names = st.one_of(
    st.sampled_from(["a/b.txt", "a", "../x", "/tmp/fuzz-x", "a/../../x", "._a", ".", "", "a/"]),
    texts.map(lambda text: text.replace("\0", "")),
)
kinds = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE,
     tarfile.FIFOTYPE, tarfile.AREGTYPE]
)  # fmt: skip


@st.composite
def tar_files(draw: st.DrawFn) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for _ in range(draw(st.integers(0, 4))):
            info = tarfile.TarInfo(draw(names))
            info.type = draw(kinds)
            info.linkname = draw(names)
            info.mode = draw(st.integers(0, 0o7777))
            content = b"x" if info.isreg() else b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    content = buffer.getvalue()
    return draw(st.one_of(st.just(content), damaged(content)))


@fuzz()
@given(tar_files())
def test_archive_of_a_corpus(content: bytes) -> None:
    """Whatever it holds, nothing appears elsewhere, and no half of it is left."""
    with directory() as folder:
        archive, target = folder / "a.tar.gz", folder / "inner" / "target"
        archive.write_bytes(content)
        target.mkdir(parents=True)
        try:
            done = outcome(
                lambda: [unpack(archive, target, "a", show_progress=False)],
                DownloadError,
                re.escape(str(archive)),
            )
        except OSError:  # names that no file system has, or that contradict each other
            done = None
        left = {path.name for path in folder.rglob("*") if target not in path.parents}
        assert left == {"a.tar.gz", "inner", "target"}
        assert not Path("/tmp/fuzz-x").exists()
        assert not any(path.is_symlink() for path in target.rglob("*"))
        if not done:
            assert list(target.iterdir()) == []


def test_examples_are_valid(tmp_path: Path) -> None:
    (tmp_path / "covost_v2.fr_en.tsv").write_bytes(PAIR)
    (tmp_path / "validated.tsv").write_bytes(TABLE)
    report = Report()
    with ClipIndex(tmp_path / "index", new=True) as index:
        LabelReader("fr", tmp_path, tmp_path, ["en"], "tc", report).read(index)
        clips = list(index.labelled_clips())
    assert [clip[0] for clip in clips] == ["a", "b", "c"]
    findings = Findings()
    assert len(list(read_lines(LIBRISPEECH, tmp_path, findings))) == 2
    (tmp_path / "t").write_bytes(AISHELL)
    assert aishell.index_transcript(tmp_path / "t", findings).keys() == {"S0002", "S0003"}
    assert findings.problems == []
    with pytest.raises(DownloadError):
        unpack(tmp_path / "t", tmp_path, "a", show_progress=False)
