# SPDX-License-Identifier: Apache-2.0
import csv
import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from espnet_objsoup.data.corpora.covost2 import CoVoST2Config, prepare
from espnet_objsoup.data.corpora.mini import SIZES, MiniCorpus, MiniCorpusError, sentences

SMALL = replace(SIZES["tiny"], utterances=(6, 4, 4), speakers=(2, 2, 2))
ALL_LAYOUTS = ("covost2", "librispeech", "aishell")


def make(root: Path, n_jobs: int, layouts: tuple[str, ...] = ALL_LAYOUTS) -> MiniCorpus:
    corpus = MiniCorpus(root, SMALL, ("fr", "zh"), (("fr", "en"), ("zh", "en")), layouts)
    corpus.make(n_jobs)
    return corpus


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".shards" not in path.parts
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mini")
    make(root, n_jobs=2)
    return root


def test_same_files_whatever_the_number_of_processes(made: Path, tmp_path: Path) -> None:
    make(tmp_path, n_jobs=1)
    assert digests(tmp_path) == digests(made)


def test_nothing_is_made_twice_and_missing_clips_are_made_again(made: Path) -> None:
    before = digests(made)
    clips = sorted((made / "commonvoice" / "fr" / "clips").iterdir())
    times = [clip.stat().st_mtime_ns for clip in clips]
    make(made, n_jobs=1)
    assert [clip.stat().st_mtime_ns for clip in clips] == times
    clips[0].unlink()
    make(made, n_jobs=1)
    assert digests(made) == before


def test_common_voice_and_covost_layout(made: Path, tmp_path: Path) -> None:
    root = made / "commonvoice" / "zh-CN"
    with open(root / "validated.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    columns = "client_id path sentence up_votes down_votes age gender accent".split()
    assert list(rows[0]) == columns
    assert len(rows) == 14
    info = soundfile.info(root / "clips" / rows[0]["path"])
    assert (info.format, info.samplerate, info.channels) == ("MP3", 48000, 1)
    config = CoVoST2Config(
        made / "commonvoice", made / "covost2", ["fr", "zh"], [("fr", "en"), ("zh", "en")]
    )
    report = prepare(config, tmp_path)
    assert report.rows == {"train": 12, "dev": 8, "test": 8}
    assert report.lines() == []


def test_librispeech_layout(made: Path) -> None:
    root = made / "LibriSpeech"
    assert {p.name for p in root.iterdir()} == {
        "SPEAKERS.TXT", "train-clean-100", "dev-clean", "dev-other", "test-clean", "test-other",
    }  # fmt: skip
    (transcript, *_) = sorted(root.glob("train-clean-100/*/*/*.trans.txt"))
    for line in transcript.read_text().splitlines():
        utterance, text = line.split(" ", 1)
        reader, chapter, _ = utterance.split("-")
        assert transcript.parent.name == chapter
        assert transcript.parent.parent.name == reader
        assert text == text.upper()
        assert soundfile.info(transcript.parent / f"{utterance}.flac").samplerate == 16000
        assert f"{reader:<5}|" in (root / "SPEAKERS.TXT").read_text()


def test_aishell_layout(made: Path) -> None:
    root = made / "data_aishell"
    text = (root / "transcript" / "aishell_transcript_v0.8.txt").read_text(encoding="utf-8")
    lines = dict(line.split(" ", 1) for line in text.splitlines())
    wavs = {path.stem: path for path in root.glob("wav/*/*/*.wav")}
    assert set(lines) == set(wavs)
    assert len(wavs) == 14
    assert all(path.parent.name == name[6:11] for name, path in wavs.items())
    info = soundfile.info(next(iter(wavs.values())))
    assert (info.samplerate, info.subtype) == (16000, "PCM_16")


def test_voices_and_sentences_of_splits_are_disjoint() -> None:
    size = SIZES["default"]
    plan = MiniCorpus(Path("x"), size, size.langs, (("fr", "en"),)).plan()
    variants: dict[str, set[str]] = {}
    tables = plan.tables
    for split in ("train", "dev", "test"):
        ids = {row.split("\t")[0] for row in tables[f"commonvoice/fr/{split}.tsv"][1:]}
        shards = [s for s in plan.shards if s.speaker.speaker in ids]
        variants[split] = {s.speaker.variant for s in shards}
        assert {s.speaker.sex for s in shards} == {"M", "F"}
    assert not variants["train"] & (variants["dev"] | variants["test"])
    assert not variants["dev"] & variants["test"]
    texts = {
        split: {row["en"] for row in sentences(size, "fr", split, 100, ["en"])}
        for split in ("train", "dev", "test")
    }
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["dev"]
    assert not texts["dev"] & texts["test"]


def test_sizes_are_as_planned() -> None:
    plan = MiniCorpus(Path("x"), SIZES["tiny"], ("en", "fr"), (("fr", "en"),)).plan()
    rows = plan.tables["covost2/covost_v2.fr_en.tsv"][1:]
    assert Counter(row.split("\t")[2] for row in rows) == {"train": 250, "dev": 24, "test": 24}
    assert sum(len(shard.clips) for shard in plan.shards) == 2 * 298


@pytest.mark.parametrize(
    ("langs", "pairs", "layouts", "message"),
    [
        (("it",), (), ("covost2",), "expected some of en, fr"),
        (("fr",), (("fr", "de"),), ("covost2",), "from or into en"),
        (("fr",), (), ("kaldi",), "layout"),
    ],
)
def test_what_does_not_exist_is_refused(langs, pairs, layouts, message) -> None:
    with pytest.raises(MiniCorpusError, match=message):
        MiniCorpus(Path("x"), SMALL, langs, pairs, layouts)
