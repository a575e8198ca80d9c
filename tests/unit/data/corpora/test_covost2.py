# SPDX-License-Identifier: Apache-2.0
import hashlib
from collections import Counter
from pathlib import Path

import pytest

from espnet_objsoup.bin import prepare_corpus
from espnet_objsoup.data.corpora import clip_index
from espnet_objsoup.data.corpora.covost2 import DIRECTIONS, CoVoST2Config, prepare
from espnet_objsoup.data.datadir import DataDirError
from espnet_objsoup.data.languages import parse_langs

from .covost2_corpus import CLIPS, NEW, Corpus, client, make, split_form


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return make(tmp_path)


def speech_of(splits: dict, lang: str) -> dict[str, list[str]]:
    return {s: [u for u in d.utterances if u.startswith(lang)] for s, d in splits.items()}


def contents(out: Path, root: Path) -> dict[str, str]:
    """Files of data directories, with a name in place of the corpus' root."""
    return {
        str(path.relative_to(out)): path.read_text("utf-8").replace(str(root), "/corpus")
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_official_splits_and_texts(corpus: Corpus, tmp_path: Path) -> None:
    splits, report = corpus.prepare(tmp_path / "data")
    french = speech_of(splits, "fr")
    assert {split: len(found) for split, found in french.items()} == {
        "train": CLIPS // 2,
        "dev": CLIPS // 4,
        "test": CLIPS // 4,
    }
    (utterance,) = [u for u in french["dev"] if u.endswith("_002")]
    row = splits["dev"].row(utterance)
    assert utterance == f"fr-{client('fr', 2)[:16]}-common_voice_fr_002"
    assert row["text"] == "phrase 2 dite"
    assert row["st_text"] == 'Sentence "2", said.'
    assert (row["utt2lang"], row["utt2tgt"]) == ("fr", "en")
    assert row["wav.scp"] == str(corpus.clip("fr", 2))
    assert not report.dropped
    assert not report.repaired
    assert not report.shared
    assert report.rows == {split: len(data.utterances) for split, data in splits.items()}
    assert report.objectives["dev"] == {"asr/en": 10, "asr/fr": 10, "st/fr-en": 10}


@pytest.mark.parametrize("header", [NEW, f"{NEW}\tcolumns\tof tomorrow"])
def test_columns_of_all_releases(tmp_path: Path, header: str) -> None:
    make(tmp_path / "4").prepare(tmp_path / "expected")
    corpus = make(tmp_path / "new", header=header)
    corpus.prepare(tmp_path / "data")
    expected = contents(tmp_path / "expected", tmp_path / "4")
    assert contents(tmp_path / "data", tmp_path / "new") == expected


def test_both_forms_of_translations_give_the_same(tmp_path: Path) -> None:
    pairs = ("en-de", "en-ca")
    make(tmp_path / "a", ["en"], pairs).prepare(tmp_path / "expected")
    corpus = make(tmp_path / "b", ["en"], pairs)
    split_form(corpus, "en_de", "en")
    corpus.prepare(tmp_path / "mixed")
    split_form(corpus, "en_ca", "en")
    corpus.table("en/validated.tsv").unlink()
    _, report = corpus.prepare(tmp_path / "split")
    assert not report.repaired + report.dropped
    expected = contents(tmp_path / "expected", tmp_path / "a")
    assert contents(tmp_path / "mixed", tmp_path / "b") == expected
    assert contents(tmp_path / "split", tmp_path / "b") == expected


def test_release_folder_may_lie_in_between(corpus: Corpus, tmp_path: Path) -> None:
    release = corpus.config.commonvoice / "cv-corpus-17.0-2024-03-15"
    release.mkdir()
    for lang in ("fr", "en"):
        corpus.folder(lang).rename(release / lang)
    splits, _ = corpus.prepare(tmp_path / "data")
    assert str(release) in splits["dev"].columns["wav.scp"][splits["dev"].utterances[0]]
    (corpus.config.commonvoice / "cv-corpus-4" / "fr").mkdir(parents=True)
    with pytest.raises(DataDirError, match=r"expected one folder of fr, found .*name one release"):
        corpus.prepare(tmp_path / "data")


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_language_without_pairs_takes_covosts_splits_else_common_voices(
    corpus: Corpus, tmp_path: Path, lang: str
) -> None:
    # Common Voice calls everything but one clip of each split training data.
    tables = {split: corpus.table(f"{lang}/{split}.tsv") for split in ("train", "dev", "test")}
    texts = {split: path.read_text("utf-8").splitlines() for split, path in tables.items()}
    for split in ("dev", "test"):
        texts["train"] += texts[split][2:]
        tables[split].write_text("\n".join(texts[split][:2]) + "\n", encoding="utf-8")
    tables["train"].write_text("\n".join(texts["train"]) + "\n", encoding="utf-8")
    splits, report = corpus.prepare(tmp_path / "data", langs=["en", "fr"], pairs=[])
    found = speech_of(splits, lang)
    expected = {"fr": 10, "en": 1}[lang]  # there is a file covost_v2.fr_en.tsv
    assert (len(found["dev"]), len(found["test"])) == (expected, expected)
    assert splits["dev"].row(found["dev"][0])["st_text"] == "<na>"
    assert report.noted["files that give the splits of fr (covost_v2.fr_en.tsv)"] == 1
    assert report.noted["tables of Common Voice that give the splits of en"] == 3
    split_form(corpus, "fr_en", "fr")
    again, _ = corpus.prepare(tmp_path / "data", langs=["en", "fr"], pairs=[])
    assert speech_of(again, lang) == found


def test_regions_and_languages_without_spaces(tmp_path: Path) -> None:
    corpus = make(tmp_path, parse_langs(["zh-CN"]), ["zh-CN-en", "en-zh"])
    splits, _ = corpus.prepare(tmp_path / "data")
    assert (tmp_path / "cv" / "zh-CN").is_dir()
    (utterance,) = [u for u in speech_of(splits, "zh")["test"] if u.endswith("_003")]
    row = splits["test"].row(utterance)
    assert (row["utt2lang"], row["text"]) == ("zh", "这是第3句话")
    english = splits["test"].row(speech_of(splits, "en")["test"][0])
    assert (english["text"], english["utt2tgt"]) == ("<na>", "zh")


def test_several_targets_make_rows_with_one_transcript(tmp_path: Path) -> None:
    corpus = make(tmp_path, ["en"], ["en-de", "en-ca"])
    data = corpus.prepare(tmp_path / "data")[0]["dev"]
    catalan, german = data.utterances[:2]
    assert catalan.endswith("_002-ca")
    assert german.endswith("_002-de")
    assert [data.row(u)["text"] for u in (catalan, german)] == ["sentence 2 isn't here", "<na>"]


def test_translation_only_language_has_no_transcript(corpus: Corpus, tmp_path: Path) -> None:
    splits, _ = corpus.prepare(tmp_path / "data", langs=["en"])
    french = speech_of(splits, "fr")["test"]
    assert {splits["test"].row(u)["text"] for u in french} == {"<na>"}


def test_clips_without_translation_stay_for_recognition(corpus: Corpus, tmp_path: Path) -> None:
    corpus.edit_row("covost_v2.fr_en.tsv", 2, lambda row: row.replace('Sentence "2", said.', ""))
    splits, report = corpus.prepare(tmp_path / "data")
    (utterance,) = [u for u in splits["dev"].utterances if u.endswith("fr_002")]
    assert splits["dev"].row(utterance)["st_text"] == "<na>"
    assert report.dropped == {"translations fr-en in dev without text": 1}
    splits, report = corpus.prepare(tmp_path / "data", langs=["en"])
    assert not [u for u in splits["dev"].utterances if u.endswith("fr_002")]
    assert report.dropped["clips of fr in dev without text"] == 1


def test_speakers_whose_ids_begin_alike_stay_apart(corpus: Corpus, tmp_path: Path) -> None:
    alike = client("fr", 2)[:127] + "1"
    corpus.edit("fr/validated.tsv", lambda text: text.replace(client("fr", 1), alike))
    corpus.edit_row("fr/validated.tsv", 3, lambda row: row.replace(client("fr", 3), "who-is this"))
    splits, _ = corpus.prepare(tmp_path / "data")
    speakers = {u[-6:]: s for d in splits.values() for u, s in d.columns["utt2spk"].items()}
    assert len({speakers[f"fr_{i:03}"] for i in range(1, 41)}) == 40
    assert speakers["fr_004"] == f"fr-{client('fr', 4)[:16]}"
    assert speakers["fr_003"] == f"fr-{hashlib.sha256(b'who-is this').hexdigest()[:16]}"


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_same_bytes_on_every_run_and_for_any_number_of_processes(
    tmp_path: Path, n_jobs: int
) -> None:
    pairs = ("fr-en", "zh-en", "en-ca", "en-de")
    results = []
    for i, jobs in enumerate((1, n_jobs)):
        corpus = make(tmp_path / f"root{i}", ["fr", "en", "zh"], pairs)
        corpus.prepare(tmp_path / f"data{i}", n_jobs=jobs)
        results.append(contents(tmp_path / f"data{i}", tmp_path / f"root{i}"))
    assert results[0] == results[1]
    assert Counter(Path(name).parts[0] for name in results[0]) == {"train": 7, "dev": 7, "test": 7}


@pytest.mark.parametrize("existed", [True, False])
def test_errors_leave_everything_as_it_was(corpus: Corpus, tmp_path: Path, existed: bool) -> None:
    out = tmp_path / "data"
    if existed:
        corpus.prepare(out)
    before = contents(out, tmp_path) if existed else None
    corpus.edit("en/test.tsv", lambda _: "")
    for n_jobs in (1, 2):
        with pytest.raises(DataDirError, match="an empty file"):
            corpus.prepare(out, n_jobs)
    assert (contents(out, tmp_path) if out.exists() else None) == before


def test_full_disk_is_told(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = clip_index._SCHEMA
    monkeypatch.setattr(clip_index, "_SCHEMA", f"{schema}PRAGMA max_page_count = 12;")
    with pytest.raises(RuntimeError, match=r"1 kB per clip, found: .* full; free space"):
        corpus.prepare(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_what_a_killed_run_left_is_removed(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "data"
    (out / ".preparing").mkdir(parents=True)
    (out / ".preparing" / "fr.sqlite").write_bytes(b"half of it")
    corpus.prepare(out)
    assert {path.name for path in out.iterdir()} == {"train", "dev", "test"}


# Arguments


def test_number_of_directions() -> None:
    assert Counter(target == "en" for _, target in DIRECTIONS) == {True: 21, False: 15}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"langs": ["pl"]}, "langs: expected some of en fr de es ca .* cy, found 'pl'"),
        ({"langs": [], "pairs": [("fr", "de")]}, "expected some of fr-en .* en-ja, found 'fr-de'"),
        ({"langs": [], "pairs": [("en", "fr")]}, "found 'en-fr'"),
        ({"langs": []}, "at least one language"),
        ({"langs": ["fr"], "forbid_leak": ["voices"]}, "expected some of speakers sentences"),
    ],
)
def test_what_the_corpus_does_not_have_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CoVoST2Config(Path("cv"), None, **{"pairs": [], **arguments})


def test_all_directions_are_accepted() -> None:
    CoVoST2Config(Path("cv"), Path("covost"), [], DIRECTIONS)


def test_pairs_need_covost(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(DataDirError, match="give --covost2"):
        corpus.prepare(tmp_path / "data", covost2=None)


def test_command_says_what_it_found(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.clip("fr", 1).write_bytes(b"")
    roots = ["--commonvoice", f"{corpus.config.commonvoice}", "--covost2", f"{corpus.covost2}"]
    what = ["--langs", "fr,en", "--st_pairs", "fr-en", "--out", str(tmp_path / "data")]
    assert prepare_corpus.main(["covost2", *roots, *what]) == 0
    captured = capsys.readouterr()
    assert "left out: 1 clips of fr in train whose audio is empty" in captured.err
    assert "train: asr/en 20, asr/fr 19, st/fr-en 19" in captured.err
    assert "utterances in train 39, dev 20, test 20" in captured.out
    with pytest.raises(SystemExit):
        prepare_corpus.main(["covost2", *roots, *what, "--max_lost", "2"])
    assert "a number from 0 to 1, found '2'" in capsys.readouterr().err


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "cv").mkdir()
    config = CoVoST2Config(tmp_path / "cv", tmp_path, ["en", "fr"], [("fr", "en"), ("en", "zh")])
    with pytest.raises(DataDirError) as caught:
        prepare(config, tmp_path / "data")
    for what in ("expected en/ or", "expected fr/ or", "v2.fr_en.tsv", "v2.en_zh-CN.tsv"):
        assert what in str(caught.value)
