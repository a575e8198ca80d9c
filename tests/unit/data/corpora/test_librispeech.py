# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from espnet_objsoup.data import datadir
from espnet_objsoup.data.corpora import speakers
from espnet_objsoup.data.corpora.librispeech import LibriSpeechConfig, open_corpus
from espnet_objsoup.data.corpora.speakers import Written, write_corpora
from espnet_objsoup.data.datadir import DataDirError

from .speech_layouts import chapter, flac, make_librispeech, trans


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_librispeech(tmp_path / "corpus")


def prepare(
    root: Path, out: Path, n_jobs: int = 1, max_lost: float = 0.7, **options: str
) -> Written:
    config = LibriSpeechConfig(root, **{"train_subset": "100", **options})
    return write_corpora([open_corpus(config)], out, n_jobs, max_lost)


def test_directories_and_rows(root: Path, tmp_path: Path) -> None:
    written = prepare(root, tmp_path / "data")
    assert written.rows == {
        "train": 6, "dev": 6, "dev_clean": 3, "dev_other": 3, "test_clean": 3, "test_other": 3,
    }  # fmt: skip
    assert written.objectives["dev"] == {"asr/en": 6}
    train = datadir.read(tmp_path / "data" / "train")
    # `103-...` before `1034-...`, as bytes and as readers.
    assert train.utterances[2:4] == ["103-1240-0002", "1034-1240-0000"]
    assert train.row("103-1240-0002") == {
        "wav.scp": str(flac(root, number=2)),
        "text": "don't say 103 2",
        "st_text": "<na>",
        "utt2lang": "en",
        "utt2tgt": "<na>",
        "utt2spk": "103",
    }
    assert datadir.read(tmp_path / "data" / "dev").utterances[0] == "116-1240-0000"


def test_the_corpus_without_faults_has_no_remark_but_its_size(root: Path, tmp_path: Path) -> None:
    (remark,) = prepare(root, tmp_path / "data").remarks
    assert remark.startswith("warning: other numbers of recordings than published: train-clean-100")
    assert "dev-other 3 of 2864" in remark


def test_a_corpus_of_the_published_size_has_no_remark() -> None:
    from espnet_objsoup.data.corpora.librispeech import incomplete

    published = {"train-clean-100": 28539, "dev-clean": 2703, "test-other": 2939}
    assert incomplete(published) == []
    assert "dev-clean 2702 of 2703" in incomplete({**published, "dev-clean": 2702})[0]


@pytest.mark.parametrize("policy", ["tc", "lc", "lc.rm"])
def test_text_policy(root: Path, tmp_path: Path, policy: str) -> None:
    prepare(root, tmp_path / "data", asr_policy=policy)
    text = datadir.read(tmp_path / "data" / "train").columns["text"]["103-1240-0000"]
    assert text == ("DON'T SAY 103 0" if policy == "tc" else "don't say 103 0")


def test_larger_subsets_need_their_parts(root: Path, tmp_path: Path) -> None:
    with pytest.raises(datadir.DataDirError) as refused:
        prepare(root, tmp_path / "data", train_subset="960")
    assert "train-clean-360: expected a part of LibriSpeech, found nothing" in str(refused.value)
    assert "train-other-500" in str(refused.value)
    assert "there are train-clean-100, dev-clean" in str(refused.value)
    assert not (tmp_path / "data").exists()


def test_unlabelled_subset_has_audio_without_transcripts(root: Path, tmp_path: Path) -> None:
    folder = chapter(root, "train-clean-360", "7")
    folder.mkdir(parents=True)
    (folder / "7-1240-0000.flac").write_bytes(b"audio")
    (folder / "7-1240.trans.txt").write_text("7-1240-0000 WORDS\n")
    written = prepare(root, tmp_path / "data", unlabelled_subset="460")
    assert written.rows["train"] == 7
    assert written.objectives["train"] == {"asr/en": 6}
    assert datadir.read(tmp_path / "data" / "train").columns["text"]["7-1240-0000"] == "<na>"


def test_a_reader_may_speak_in_two_parts_of_the_training_data(root: Path, tmp_path: Path) -> None:
    folder = chapter(root, "train-clean-360", "103", "1239")
    folder.mkdir(parents=True)
    (folder / "103-1239-0000.flac").write_bytes(b"audio")
    (folder / "103-1239.trans.txt").write_text("103-1239-0000 WORDS\n")
    prepare(root, tmp_path / "data", train_subset="460")
    assert datadir.read(tmp_path / "data" / "train").utterances[0] == "103-1239-0000"


def test_recordings_without_transcript_stay_for_self_supervision_in_training(
    root: Path, tmp_path: Path
) -> None:
    trans(root).write_text("")
    trans(root, "test-clean", "61").write_text("61-1240-0000 WORDS\n")
    written = prepare(root, tmp_path / "data")
    assert (written.rows["train"], written.objectives["train"]) == (6, {"asr/en": 3})
    # Where nothing is trained, nothing could be said of them.
    assert written.rows["test_clean"] == 1
    remark = "left out: recordings of test-clean without transcript: 2"
    assert any(line.startswith(remark) for line in written.remarks)


def test_a_part_of_which_much_is_lost_is_refused(root: Path, tmp_path: Path) -> None:
    """Scores would be those of another test set."""
    trans(root, "test-clean", "61").write_text("61-1240-0000 WORDS\n")
    flac(root, "dev-clean", "84", 0).unlink()
    message = r"test-clean: expected .* at most 10 % .* found 2 of 3; fetch(.|\n)*--max_lost"
    with pytest.raises(DataDirError, match=message) as error:
        prepare(root, tmp_path / "data", max_lost=0.1)
    assert "dev-clean: expected" in str(error.value)
    assert not (tmp_path / "data" / "train").exists()
    written = prepare(root, tmp_path / "data", max_lost=0.7)
    assert "usable: 1 of 3 recordings of test-clean with transcript" in written.remarks


def test_a_transcript_that_may_be_cut_off_is_told(root: Path, tmp_path: Path) -> None:
    table = trans(root, "test-clean", "61")
    table.write_text(table.read_text().removesuffix("\n"))
    remarks = prepare(root, tmp_path / "data").remarks
    what = "warning: transcripts whose last line has no end, and may be cut off: 1"
    assert [line for line in remarks if line.startswith(what)]


def test_same_files_in_every_run_and_for_any_number_of_processes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speakers, "_SPEAKERS_PER_PROCESS", 1)
    made = []
    for name, n_jobs in (("a", 1), ("b", 1), ("c", 2)):
        prepare(root, tmp_path / name, n_jobs)
        files = sorted((tmp_path / name).glob("*/*"))
        made.append({str(p.relative_to(tmp_path / name)): p.read_bytes() for p in files})
    assert len(made[0]) == 6 * 7
    assert made[0] == made[1] == made[2]


def test_a_run_that_fails_leaves_all_directories_as_they_were(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "data")
    before = {p: p.read_bytes() for p in (tmp_path / "data").glob("*/*")}
    # Later than all others in the order of reading.
    trans(root, "dev-clean", "84").write_bytes(b"84-1240-0000 \xff\n")
    with pytest.raises(datadir.DataDirError):
        prepare(root, tmp_path / "data")
    assert {p: p.read_bytes() for p in (tmp_path / "data").glob("*/*")} == before
