# SPDX-License-Identifier: Apache-2.0
import shutil
import tarfile
from pathlib import Path

import pytest

from espnet_objsoup.bin import prepare_corpus
from espnet_objsoup.data import datadir
from espnet_objsoup.data.corpora import aishell_archives, speakers
from espnet_objsoup.data.corpora.aishell import (
    PUBLISHED_RECORDINGS,
    AishellConfig,
    index_transcript,
    open_corpus,
)
from espnet_objsoup.data.corpora.findings import Findings
from espnet_objsoup.data.corpora.speakers import Written, write_corpora
from espnet_objsoup.data.datadir import DataDirError
from espnet_objsoup.data.download import DownloadError
from espnet_objsoup.evaluation.error_rate import characters_of

from .speech_layouts import (
    TRANSCRIPT,
    make_aishell,
    make_librispeech,
    pack,
    pack_all,
    wav,
    write_archive,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_aishell(tmp_path / "corpus")


def prepare(
    root: Path, out: Path, n_jobs: int = 1, policy: str = "lc.rm", max_lost: float = 0.7
) -> Written:
    config = AishellConfig(root, root.parent / "unpacked", policy)
    return write_corpora([open_corpus(config, n_jobs)], out, n_jobs, max_lost)


def tables(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.glob("*/*"))}


def test_a_split_of_which_much_is_lost_is_refused(root: Path, tmp_path: Path) -> None:
    table = root / TRANSCRIPT
    table.write_text(table.read_text("utf-8").removesuffix("\n"), "utf-8")
    wav(root, "test", "S0764", 121).unlink()
    message = r"aishell-test: expected .* at most 10 % .* found 1 of 2; fetch(.|\n)*--max_lost"
    with pytest.raises(DataDirError, match=message):
        prepare(root, tmp_path / "data", max_lost=0.1)
    remarks = prepare(root, tmp_path / "data").remarks
    assert [line for line in remarks if "last line has no end, and may be cut off: 1" in line]


def test_directories_and_rows(root: Path, tmp_path: Path) -> None:
    written = prepare(root, tmp_path / "data")
    assert written.rows == {"train": 4, "dev": 2, "test": 2}
    assert written.objectives["train"] == {"asr/zh": 4}
    train = datadir.read(tmp_path / "data" / "train")
    assert train.row("S0002-BAC009S0002W0121") == {
        "wav.scp": str(wav(root)),
        "text": "那个女人看见了2",
        "st_text": "<na>",
        "utt2lang": "zh",
        "utt2tgt": "<na>",
        "utt2spk": "S0002",
    }


def test_scores_count_characters(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "data")
    text = datadir.read(tmp_path / "data" / "test").columns["text"]["S0764-BAC009S0764W0121"]
    assert characters_of(text, "zh") == list("那个女人看见了4")


def test_number_of_recordings_is_compared_with_the_published_one(
    root: Path, tmp_path: Path
) -> None:
    (remark,) = prepare(root, tmp_path / "data").remarks
    assert remark == "warning: AISHELL-1: expected 141925 recordings as published, found 8"
    corpus = open_corpus(AishellConfig(root, tmp_path), 1)
    assert not corpus.incomplete({"aishell-train": PUBLISHED_RECORDINGS - 1, "aishell-dev": 1})


@pytest.mark.parametrize(
    ("policy", "text"), [("tc", "那个女人看见了2"), ("lc.rm", "那个女人看见了2")]
)
def test_there_are_no_spaces_whatever_the_policy(
    root: Path, tmp_path: Path, policy: str, text: str
) -> None:
    prepare(root, tmp_path / "data", policy=policy)
    data = datadir.read(tmp_path / "data" / "train")
    assert data.columns["text"]["S0002-BAC009S0002W0121"] == text


def test_archives_are_unpacked_into_the_recipe(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "folders")
    pack_all(root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    prepare(root, tmp_path / "archives")
    # The corpus itself may be read-only and shared.
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    folders, archives = tables(tmp_path / "folders"), tables(tmp_path / "archives")
    unpacked = tmp_path / "unpacked" / "train" / "S0002"
    assert f"{unpacked}/BAC009S0002W0121.wav".encode() in archives["train/wav.scp"]
    there, here = f"{root}/data_aishell/wav/".encode(), f"{tmp_path}/unpacked/".encode()
    assert {name: t.replace(here, there) for name, t in archives.items()} == folders


def test_only_speakers_without_a_folder_are_unpacked_and_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(root, "train", "S0003")
    first = prepare(root, tmp_path / "data")
    assert [p.name for p in (tmp_path / "unpacked").glob("*/*")] == ["S0003"]
    monkeypatch.setattr(aishell_archives, "unpack", None)
    assert prepare(root, tmp_path / "data") == first


def test_what_another_corpus_was_unpacked_to_is_not_taken(root: Path, tmp_path: Path) -> None:
    pack_all(root)
    prepare(root, tmp_path / "data")
    other = make_aishell(tmp_path / "other")
    pack_all(other)
    (other / "data_aishell" / "wav" / "S0764.tar.gz").unlink()
    before = tables(tmp_path / "data")
    with pytest.raises(DataDirError, match="wav/test: expected folders of speakers"):
        prepare(other, tmp_path / "data")
    assert tables(tmp_path / "data") == before


def test_speakers_of_another_corpus_are_unpacked_anew(root: Path, tmp_path: Path) -> None:
    pack_all(root)
    prepare(root, tmp_path / "data")
    other = make_aishell(tmp_path / "other")
    for path in other.glob("data_aishell/wav/*/*/*.wav"):
        path.write_bytes(b"other audio")
    pack_all(other)
    assert prepare(other, tmp_path / "data").rows == {"train": 4, "dev": 2, "test": 2}
    files = list((tmp_path / "unpacked").glob("*/*/*.wav"))
    assert len(files) == 8
    assert {path.read_bytes() for path in files} == {b"other audio"}


def test_a_changed_archive_is_unpacked_anew_even_into_another_split(
    root: Path, tmp_path: Path
) -> None:
    archives = pack_all(root)
    prepare(root, tmp_path / "data")
    # S0003 moves to test; of its recordings there is one.
    (changed,) = [path for path in archives if path.name == "S0003.tar.gz"]
    write_archive(changed, [tarfile.TarInfo("test/S0003/BAC009S0003W0122.wav")])
    written = prepare(root, tmp_path / "data")
    assert written.rows == {"train": 2, "dev": 2, "test": 3}
    assert [p.parent.name for p in (tmp_path / "unpacked").glob("*/S0003")] == ["test"]
    # A damaged one is refused; what was unpacked before stays, and is not used.
    changed.write_bytes(b"damaged")
    with pytest.raises(DownloadError, match=r"S0003\.tar\.gz: expected a whole"):
        prepare(root, tmp_path / "data")
    assert (tmp_path / "unpacked" / "test" / "S0003").is_dir()


def test_a_folder_in_the_corpus_comes_before_its_archive(root: Path, tmp_path: Path) -> None:
    folder = wav(root, "train", "S0003").parent
    shutil.copytree(folder, tmp_path / "folder")
    pack(root, "train", "S0003")
    prepare(root, tmp_path / "data")
    shutil.copytree(tmp_path / "folder", folder)
    prepare(root, tmp_path / "data")
    audio = datadir.read(tmp_path / "data" / "train").columns["wav.scp"]
    assert audio["S0003-BAC009S0003W0121"] == str(folder / "BAC009S0003W0121.wav")


def test_a_folder_of_unknown_origin_is_neither_used_nor_deleted(root: Path, tmp_path: Path) -> None:
    pack(root, "train", "S0003")
    own = tmp_path / "unpacked" / "train" / "S0003"
    own.mkdir(parents=True)
    (own / "precious").touch()
    with pytest.raises(DataDirError, match=r"train/S0003: expected a folder that was unpacked"):
        prepare(root, tmp_path / "data")
    assert (own / "precious").exists()


@pytest.mark.parametrize("recorded", [False, True])
def test_a_kill_between_record_and_folder_leaves_nothing_wrong(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    archive = pack(root, "train", "S0003")
    prepare(root, tmp_path / "data")
    write_archive(archive, [tarfile.TarInfo("train/S0003/BAC009S0003W0122.wav")])
    write = aishell_archives.write_bytes

    def killed(path: Path, content: bytes) -> None:
        if recorded:
            write(path, content)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(aishell_archives, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(root, tmp_path / "data")
    assert prepare(root, tmp_path / "data").rows["train"] == 3


def test_unpacking_goes_on_where_it_was_killed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_all(root)
    unpack = aishell_archives.unpack
    done = []

    def killed_at_the_third(archive: Path, directory: Path, *rest: object, **more: object) -> None:
        if len(done) == 2:
            (directory / "train").mkdir()
            (directory / "train" / "half.wav").write_bytes(b"x")
            raise KeyboardInterrupt
        done.append(archive.name)
        unpack(archive, directory, *rest, **more)

    monkeypatch.setattr(aishell_archives, "unpack", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepare(root, tmp_path / "data")
    assert not list(tmp_path.glob("data/*"))
    done.clear()
    done_before = {p.name for p in (tmp_path / "unpacked").glob("*/S????")}
    assert done_before == {"S0002", "S0003"}
    prepare(root, tmp_path / "data")
    assert done == ["S0724.tar.gz", "S0764.tar.gz"]


def test_what_a_kill_has_left_is_not_taken_for_a_speaker(root: Path, tmp_path: Path) -> None:
    pack(root, "train", "S0003")
    half = tmp_path / "unpacked" / ".S0003" / "train" / "S0003"
    half.mkdir(parents=True)
    (half / "BAC009S0003W0999.wav").write_bytes(b"half")
    assert prepare(root, tmp_path / "data").rows["train"] == 4
    assert not (tmp_path / "unpacked" / ".S0003").exists()


def test_same_files_in_every_run_and_for_any_number_of_processes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speakers, "_SPEAKERS_PER_PROCESS", 1)
    made = []
    for name, n_jobs in (("a", 1), ("b", 1), ("c", 2)):
        prepare(root, tmp_path / name, n_jobs)
        made.append(tables(tmp_path / name))
    assert len(made[0]) == 3 * 7
    assert made[0] == made[1] == made[2]


def test_the_index_has_the_lines_of_each_speaker(tmp_path: Path) -> None:
    path = tmp_path / "t"
    lines = ["BAC009S0003W0001 一", "BAC009S0002W0001 二", "BAC009S0002W0002 三", "",
             "BAC009S0003W0002 四"]  # fmt: skip
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    runs = index_transcript(path, Findings())
    content = path.read_bytes()
    found = {
        speaker: [content[r.offset : r.offset + r.length].decode("utf-8-sig") for r in found]
        for speaker, found in runs.items()
    }
    assert found == {
        "S0003": [f"{lines[0]}\n", lines[4]],
        "S0002": [f"{lines[1]}\n{lines[2]}\n"],
    }
    assert [r.first_line for r in (*runs["S0003"], *runs["S0002"])] == [1, 5, 2]
    assert runs["S0002"][0].lines == 2


def test_both_corpora_together(root: Path, tmp_path: Path) -> None:
    make_librispeech(root)
    options = ["--aishell", str(root), "--librispeech", str(root), "--train_subset", "100"]
    for corpus in ("aishell", "librispeech"):
        out = ["--out", str(tmp_path / corpus)]
        assert prepare_corpus.main([corpus, *options, *out]) == 0
    assert tables(tmp_path / "aishell") == tables(tmp_path / "librispeech")
    data = {p.name: datadir.read(p) for p in (tmp_path / "aishell").iterdir()}
    assert {name: len(d.utterances) for name, d in data.items()} == {
        "train": 10, "dev": 8, "dev_clean": 3, "dev_other": 3, "test_clean": 3, "test_other": 3,
        "aishell_dev": 2, "aishell_test": 2,
    }  # fmt: skip
    assert set(data["train"].columns["utt2lang"].values()) == {"en", "zh"}
    assert set(data["aishell_test"].columns["utt2lang"].values()) == {"zh"}


def test_command_says_what_it_made(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data"
    assert prepare_corpus.main(["aishell", "--aishell", str(root), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert f"{out}: utterances in train 4, dev 2, test 2" in captured.out
    assert f"{out / 'train'}: asr/zh 4" in captured.err
    assert "expected 141925 recordings" in captured.err
    (root / TRANSCRIPT).unlink()
    assert prepare_corpus.main(["aishell", "--aishell", str(root), "--out", str(out)]) == 1
    assert "aishell_transcript_v0.8.txt: not found" in capsys.readouterr().err
