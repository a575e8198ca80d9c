# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from espnet_objsoup.data.corpora.covost2 import CoVoST2Config, parse_pairs, prepare
from espnet_objsoup.data.datadir import DataDirError

HEADER = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent\n"


@pytest.fixture
def corpus(tmp_path: Path) -> CoVoST2Config:
    """French clips 1-6 with translations of 1-5 into English, English clips without pairs."""
    for lang, count in (("fr", 6), ("en", 3)):
        clips = tmp_path / "cv" / lang / "clips"
        clips.mkdir(parents=True)
        rows = []
        for i in range(1, count + 1):
            name = f"common_voice_{lang}_{i}.mp3"
            (clips / name).write_bytes(b"audio")
            rows.append(f"{lang}{i:0128x}\t{name}\tPhrase “{i}”, dite.\t2\t0\t\t\t\n")
        (clips.parent / "validated.tsv").write_text(HEADER + "".join(rows), encoding="utf-8")
        for split, row in zip(("train", "dev", "test"), rows, strict=False):
            (clips.parent / f"{split}.tsv").write_text(HEADER + row, encoding="utf-8")
    (tmp_path / "covost").mkdir()
    splits = ["train", "train_covost", "dev", "test", "train"]
    pairs = "".join(
        f'common_voice_fr_{i}.mp3\tSentence "{i}", said.\t{split}\n'
        for i, split in enumerate(splits, 1)
    )
    (tmp_path / "covost" / "covost_v2.fr_en.tsv").write_text("path\ttranslation\tsplit\n" + pairs)
    return CoVoST2Config(tmp_path / "cv", tmp_path / "covost", ["fr", "en"], [("fr", "en")])


def test_official_splits_and_texts(corpus: CoVoST2Config) -> None:
    splits, report = prepare(corpus)
    french = {
        split: sorted(u for u in data.utterances if u.startswith("fr"))
        for split, data in splits.items()
    }
    assert [len(french[s]) for s in ("train", "dev", "test")] == [3, 1, 1]
    row = splits["dev"].row(french["dev"][0])
    assert row["text"] == "phrase 3 dite"
    assert row["st_text"] == 'Sentence "3", said.'
    assert (row["utt2lang"], row["utt2tgt"]) == ("fr", "en")
    assert row["utt2spk"] == "fr-fr" + "0" * 14
    assert not report.dropped


def test_language_without_pairs_takes_common_voices_splits(corpus: CoVoST2Config) -> None:
    splits, _ = prepare(corpus)
    for data in splits.values():
        (utterance,) = [u for u in data.utterances if u.startswith("en")]
        assert data.row(utterance)["st_text"] == data.row(utterance)["utt2tgt"] == "<na>"


def test_missing_and_empty_clips_are_counted(corpus: CoVoST2Config) -> None:
    clips = corpus.commonvoice / "fr" / "clips"
    (clips / "common_voice_fr_1.mp3").unlink()
    (clips / "common_voice_fr_2.mp3").write_bytes(b"")
    splits, report = prepare(corpus)
    assert sum(u.startswith("fr") for u in splits["train"].utterances) == 1
    assert report.dropped == {
        "of fr whose audio is missing": 1,
        "of fr whose audio is empty": 1,
    }
    assert "left out: 1 clips of fr whose audio is missing" in report.lines()


def test_two_targets_make_two_rows_with_one_transcript(corpus: CoVoST2Config) -> None:
    english = corpus.covost2 / "covost_v2.fr_en.tsv"
    text = english.read_text()
    (corpus.covost2 / "covost_v2.fr_de.tsv").write_text(text.replace("Sentence", "Satz"))
    config = CoVoST2Config(
        corpus.commonvoice, corpus.covost2, ["fr"], parse_pairs(["fr-en", "fr-de"])
    )
    data = prepare(config)[0]["dev"]
    german, english_row = data.utterances
    assert german.endswith("-de")
    assert english_row.endswith("-en")
    assert [data.row(u)["text"] for u in (german, english_row)] == ["phrase 3 dite", "<na>"]


def test_translation_only_language_has_no_transcript(corpus: CoVoST2Config) -> None:
    config = CoVoST2Config(corpus.commonvoice, corpus.covost2, ["en"], [("fr", "en")])
    data = prepare(config)[0]["test"]
    assert [data.row(u)["text"] for u in data.utterances if u.startswith("fr")] == ["<na>"]


def test_missing_columns_and_files_are_named(corpus: CoVoST2Config) -> None:
    path = corpus.covost2 / "covost_v2.fr_en.tsv"
    path.write_text("path\ttext\n")
    with pytest.raises(DataDirError, match="expected the columns path, translation, split"):
        prepare(corpus)
    path.unlink()
    with pytest.raises(DataDirError, match=r"covost_v2\.fr_en\.tsv: not found"):
        prepare(corpus)


def test_truncated_row_is_an_error(corpus: CoVoST2Config) -> None:
    path = corpus.covost2 / "covost_v2.fr_en.tsv"
    path.write_text(path.read_text() + "common_voice_fr_6.mp3\tcut")
    with pytest.raises(DataDirError, match=r"fr_en\.tsv:7: expected 3 fields"):
        prepare(corpus)


def test_speakers_in_two_splits_are_reported(corpus: CoVoST2Config) -> None:
    path = corpus.commonvoice / "fr" / "validated.tsv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f"fr{3:0128x}", f"fr{1:0128x}"), encoding="utf-8")
    # The first sixteen digits of these made-up ids are equal anyway.
    _, report = prepare(corpus)
    assert any(key.startswith("utt2spk train/dev") for key in report.shared)


@pytest.mark.parametrize("value", ["fr", "fr-", "fr-en-de"])
def test_bad_pairs_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="such as fr-en"):
        parse_pairs([value])
