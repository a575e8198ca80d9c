# SPDX-License-Identifier: Apache-2.0
"""Faults in CoVoST 2 and Common Voice: mended and counted, left out and counted, or refused.

docs/data_format.md lists them; a test here keeps the two together.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio import AudioFormat, format_audio
from espnet_objsoup.data.datadir import DataDirError
from tests.unit.data.factory import write_tone

from .covost2_corpus import CLIPS, Corpus, client, make, split_form, write

PAIR, VALIDATED = "covost_v2.fr_en.tsv", "fr/validated.tsv"
DOCUMENTED = Path(__file__).parents[4] / "docs" / "data_format.md"


def quote_like_pandas(row: str) -> str:
    """What writing with minimal quoting makes of a row with quotes in its translation."""
    path, text, split = row.split("\t")
    doubled = text.replace('"', '""')
    return f'{path}\t"{doubled}"\t{split}'


def quote_all(text: str) -> str:
    return re.sub(r"[^\t\n]+", lambda field: f'"{field[0]}"', text)


def without_column(text: str, name: str) -> str:
    rows = [line.split("\t") for line in text.splitlines()]
    place = rows[0].index(name)
    return "".join("\t".join(r[:place] + r[place + 1 :]) + "\n" for r in rows)


def no_split(corpus: Corpus, name: str) -> None:
    corpus.edit(
        PAIR, lambda s: "".join(x for x in s.splitlines(True) if not x.endswith(f"{name}\n"))
    )


def wrong_pair(corpus: Corpus) -> None:
    corpus.edit(PAIR, lambda s: s.replace("common_voice_fr_", "common_voice_de_"))


def half_of_the_split_files(corpus: Corpus) -> None:
    split_form(corpus, "fr_en", "fr")
    corpus.table("covost_v2.fr_en.dev.tsv").unlink()


def two_targets_that_disagree(corpus: Corpus) -> None:
    # English clip 2 is dev in one file and test in the other.
    rows = [f"{corpus.clip('en', i).name}\tText {i}.\ttrain" for i in range(1, CLIPS + 1)]
    header = "path\ttranslation\tsplit"
    for target, split in (("de", "dev"), ("ca", "test")):
        own = [*rows[:1], rows[1].replace("train", split), *rows[2:]]
        write(corpus.covost2 / f"covost_v2.en_{target}.tsv", header, own)


def swap_names(corpus: Corpus) -> None:
    """A clip whose name with a target's suffix is another clip's name."""
    two = [f"{corpus.clip('en', i).name}\tText {i}.\t{s}" for i, s in ((1, "train"), (2, "dev"))]
    two += [
        f"{corpus.clip('en', 3).name}\tText 3.\ttest",
        "common_voice_en_001-de.mp3\tText.\ttrain",
    ]
    for target in ("de", "ca"):
        write(corpus.covost2 / f"covost_v2.en_{target}.tsv", "path\ttranslation\tsplit", two)
    (corpus.clip("en", 1).parent / "common_voice_en_001-de.mp3").write_bytes(b"audio")
    corpus.edit(
        "en/validated.tsv",
        lambda s: s + f"{client('en', 1)}\tcommon_voice_en_001-de.mp3\tA.\t\t\t\t\t\n",
    )


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


# Name in the documentation -> what is done to the corpus, and what is said of it.
MENDED: dict[str, tuple[Callable[[Corpus], object], str]] = {
    "byte order mark": (
        lambda c: c.edit(VALIDATED, lambda s: "\ufeff" + s),
        "1 byte order mark of fr/validated.tsv",
    ),
    "line ends of Windows": (
        lambda c: c.edit(PAIR, lambda s: s.replace("\n", "\r\n")),
        "41 line ends of Windows in covost/covost_v2.fr_en.tsv",
    ),
    "fields quoted as by a spreadsheet": (
        lambda c: [c.edit_row(PAIR, i, quote_like_pandas) for i in range(1, CLIPS + 1)],
        "40 fields of covost/covost_v2.fr_en.tsv that were quoted",
    ),
    "clip names without `.mp3`": (
        lambda c: c.edit(VALIDATED, lambda s: s.replace(".mp3", "")),
        "",
    ),
    "clip name with directories": (
        lambda c: c.edit(PAIR, lambda s: s.replace("common_voice", "clips/common_voice")),
        "40 paths with directories, of which the last part is used",
    ),
    "row that occurs twice": (
        lambda c: c.edit(PAIR, lambda s: s + s.splitlines(True)[3]),
        "1 rows of covost_v2.fr_en.tsv that occur twice",
    ),
    "clip listed twice, equally": (
        lambda c: c.edit(VALIDATED, lambda s: s + s.splitlines(True)[3]),
        "1 clips of fr that validated.tsv lists twice",
    ),
    "header repeated": (
        lambda c: c.edit(VALIDATED, lambda s: s + s.splitlines(True)[0]),
        "1 headers in the middle of fr/validated.tsv",
    ),
    "empty lines": (lambda c: c.edit(VALIDATED, lambda s: s.replace("\n", "\n\n")), ""),
    "tabs after the last field": (lambda c: c.edit(PAIR, lambda s: s.replace("\n", "\t\n")), ""),
    "escaped characters": (lambda c: c.edit(PAIR, lambda s: s.replace('"', '\\"')), ""),
    "unknown columns": (lambda c: c.edit(VALIDATED, lambda s: s.replace("age", "of_tomorrow")), ""),
    "clip without row": (
        lambda c: c.clip("fr", 99).write_bytes(b"audio"),
        "1 files in fr/clips that are not used",
    ),
    "validated clip that no split lists": (
        lambda c: c.edit(
            VALIDATED, lambda s: s + s.splitlines(True)[1].replace("fr_001", "fr_099")
        ),
        "1 validated clips of fr that no split lists",
    ),
}

# The same, for training clip 4 (clip 2 is one of dev) -> how many utterances of French are left.
LEFT_OUT: dict[str, tuple[Callable[[Corpus], object], str, int]] = {
    "row without clip": (
        lambda c: c.clip("fr", 4).unlink(),
        "1 clips of fr in train whose audio is missing",
        39,
    ),
    "zero-byte clip": (
        lambda c: c.clip("fr", 4).write_bytes(b""),
        "1 clips of fr in train whose audio is empty",
        39,
    ),
    "folder in place of a clip": (
        lambda c: [c.clip("fr", 4).unlink(), c.clip("fr", 4).mkdir()],
        "1 clips of fr in train whose audio is no file",
        39,
    ),
    "clip that is not validated": (
        lambda c: c.edit_row(VALIDATED, 4, lambda _: ""),
        "1 clips of fr in train that validated.tsv does not list",
        39,
    ),
    "clip listed twice, differently": (
        lambda c: c.edit(VALIDATED, lambda s: s + s.splitlines(True)[4].replace("dite", "lue")),
        "1 clips of fr in train that a table lists twice, with different values",
        39,
    ),
    "clip without client": (
        lambda c: c.edit_row(VALIDATED, 4, lambda row: row.replace(client("fr", 4), "")),
        "1 clips of fr in train without client_id",
        39,
    ),
    "tab in a sentence": (
        lambda c: c.edit_row(VALIDATED, 4, lambda row: row.replace(", ", "\t")),
        "1 rows of fr/validated.tsv with a tab too many",
        39,
    ),
    "line feed in a sentence": (
        lambda c: c.edit_row(VALIDATED, 4, lambda row: row.replace(", ", "\n")),
        "2 rows of fr/validated.tsv with fields missing",
        39,
    ),
    "empty transcript": (
        lambda c: c.edit_row(VALIDATED, 4, lambda row: row.replace("Phrase “4”, dite.", "…")),
        "1 transcripts of fr in train without text",
        40,
    ),
    "NaN or empty translation": (
        lambda c: c.edit_row(PAIR, 4, lambda row: row.replace('Sentence "4", said.', "NaN")),
        "1 translations fr-en in train without text",
        40,
    ),
    "two translations of one clip": (
        lambda c: c.edit(PAIR, lambda s: s + s.splitlines(True)[4].replace("said", "read")),
        "1 further translations of one clip in covost_v2.fr_en.tsv",
        40,
    ),
    "unknown split": (
        lambda c: c.edit_row(PAIR, 4, lambda row: row.replace("train", "invalidated")),
        "1 rows of covost_v2.fr_en.tsv in split 'invalidated'",
        39,
    ),
    "transcript in another script": (
        lambda c: c.edit_row(VALIDATED, 4, lambda row: row.replace("Phrase “4”, dite", "Фраза")),
        "1 transcripts of fr in train that have another script than that of fr",
        40,
    ),
    "translation in another script": (
        lambda c: c.edit_row(PAIR, 4, lambda row: row.replace('Sentence "4", said', "句子")),
        "1 translations fr-en in train that have another script than that of en",
        40,
    ),
}

REFUSED: dict[str, tuple[Callable[[Corpus], object], str]] = {
    "missing column": (
        lambda c: c.edit(VALIDATED, lambda s: without_column(s, "client_id")),
        r"validated\.tsv:1: expected the columns path, client_id, sentence, found path, sentence",
    ),
    "all fields quoted": (
        lambda c: c.edit(PAIR, quote_all),
        r"fr_en\.tsv:1: .*another program has quoted the fields, get the original",
    ),
    "commas instead of tabs": (
        lambda c: c.edit(PAIR, lambda s: s.replace("\t", ",")),
        "fields have to be separated by tabs",
    ),
    "bytes that are not UTF-8": (
        lambda c: c.table(VALIDATED).write_bytes(c.table(VALIDATED).read_text().encode("cp1252")),
        r"fr/validated\.tsv:2: expected UTF-8, found byte 0x93",
    ),
    "UTF-16": (
        lambda c: c.table(PAIR).write_bytes(c.table(PAIR).read_text().encode("utf-16")),
        r"fr_en\.tsv:1: expected text, found a zero byte",
    ),
    "table cut off": (
        lambda c: c.edit(VALIDATED, lambda s: s[:-25]),
        r"validated\.tsv:41: expected 8 fields, found 3 and the end of the file: it is cut off",
    ),
    "empty table": (lambda c: c.edit(PAIR, lambda _: ""), r"fr_en\.tsv:1: .*found an empty file"),
    "table without rows": (
        lambda c: c.edit(PAIR, lambda s: s.splitlines(True)[0]),
        r"fr_en\.tsv: expected rows below the header, found none",
    ),
    "missing table": (
        lambda c: c.table(PAIR).unlink(),
        r"covost_v2\.fr_en\.tsv: not found; expected the corpus unpacked there",
    ),
    "packed table": (
        lambda c: c.table(PAIR).rename(c.covost2 / f"{PAIR}.tar.gz"),
        r"not found; unpack covost_v2\.fr_en\.tsv\.tar\.gz",
    ),
    "missing language": (
        lambda c: shutil.rmtree(c.folder("en")),
        r"cv: expected en/ or cv-corpus-\*/en/ in it, found fr; give the folder that contains the",
    ),
    "missing clips": (
        lambda c: shutil.rmtree(c.folder("fr") / "clips"),
        r"fr/clips: expected a folder with the clips, found that it cannot be read \(No such file",
    ),
    "clips that cannot be read": (
        # Rights cannot be taken from the superuser; a link to itself cannot be followed by anybody.
        lambda c: [
            shutil.rmtree(c.folder("fr") / "clips"),
            link_to_itself(c.folder("fr") / "clips"),
        ],
        r"fr/clips: expected a folder with the clips, .*correct its rights",
    ),
    "a clip that cannot be read": (
        lambda c: [c.clip("fr", 4).unlink(), link_to_itself(c.clip("fr", 4))],
        r"fr_004\.mp3: expected a file that can be read .*correct the rights",
    ),
    "path that leads out of `clips/`": (
        lambda c: c.edit_row(PAIR, 4, lambda row: f"../../{row}"),
        r"fr_en\.tsv:5: expected the name of a file in clips/, found '\.\./\.\./common",
    ),
    "absent split": (
        lambda c: no_split(c, "dev"),
        "fr: .*that there are some, found: there is no utterance in dev",
    ),
    "clip in two splits": (
        lambda c: c.edit(PAIR, lambda s: s + s.splitlines(True)[2].replace("dev", "test")),
        r"fr_en\.tsv:42: expected one split per clip, found common_voice_fr_002 in test and in dev",
    ),
    "file of another pair": (
        wrong_pair,
        "fr: .*found: 20 of 20 clips of fr in train are not usable; .*there is no utterance in "
        "train, dev, test\n  left out: 20 clips of fr in train that validated.tsv does not list",
    ),
    "translations in another script throughout": (
        lambda c: c.edit(PAIR, lambda s: s.replace("Sentence", "Предложение")),
        "20 of 20 translations fr-en in train are not usable; 10 of 10 .* in dev",
    ),
    "many clips lost": (
        lambda c: [c.clip("fr", i).unlink() for i in range(1, 6)],
        r"found: 3 of 20 clips of fr in train are not usable\n(.|\n)*left out: 3 clips of fr in "
        "train whose audio is missing",
    ),
    "most of a small split lost": (
        lambda c: [c.clip("fr", i).unlink() for i in (3, 7, 11)],
        "found: 3 of 10 clips of fr in test are not usable\n",
    ),
    "some of the split script's files": (
        half_of_the_split_files,
        r"expected covost_v2\.fr_en\.tsv, or a file for each split, found no covost_v2\.fr_en\.dev",
    ),
}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return make(tmp_path)


@pytest.mark.parametrize("fault", MENDED)
def test_mended(corpus: Corpus, tmp_path: Path, fault: str) -> None:
    expected, _ = corpus.prepare(tmp_path / "expected")
    spoil, counted = MENDED[fault]
    spoil(corpus)
    found, report = corpus.prepare(tmp_path / "data")
    assert {s: d.columns for s, d in found.items()} == {s: d.columns for s, d in expected.items()}
    own = [line for line in report.lines() if "give the splits of en" not in line]
    assert [line.partition(": ")[2] for line in own] == ([counted] if counted else [])


@pytest.mark.parametrize("fault", LEFT_OUT)
def test_left_out(corpus: Corpus, tmp_path: Path, fault: str) -> None:
    spoil, counted, kept = LEFT_OUT[fault]
    spoil(corpus)
    splits, report = corpus.prepare(tmp_path / "data")
    assert f"left out: {counted}" in report.lines()
    utterances = [u for data in splits.values() for u in data.utterances if u.startswith("fr")]
    assert len(utterances) == kept
    labels = sum(n for d in report.objectives.values() for o, n in d.items() if "fr" in o)
    assert labels == (80 if "further" in counted else 79 if kept == 40 else 78)


@pytest.mark.parametrize("fault", REFUSED)
def test_refused(corpus: Corpus, tmp_path: Path, fault: str) -> None:
    spoil, message = REFUSED[fault]
    spoil(corpus)
    with pytest.raises(DataDirError, match=message):
        corpus.prepare(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_targets_that_disagree_about_a_split_are_refused(tmp_path: Path) -> None:
    corpus = make(tmp_path, ["en"], ["en-de", "en-ca"])
    two_targets_that_disagree(corpus)
    message = "found common_voice_en_002 in dev for one target and in test for another"
    with pytest.raises(DataDirError, match=message):
        corpus.prepare(tmp_path / "data")


def test_clips_whose_ids_would_be_equal_are_refused(tmp_path: Path) -> None:
    corpus = make(tmp_path, ["en"], ["en-de", "en-ca"])
    swap_names(corpus)
    write(
        corpus.covost2 / "covost_v2.en_ca.tsv",
        "path\ttranslation\tsplit",
        [
            row
            for row in corpus.table("covost_v2.en_ca.tsv").read_text().splitlines()[1:]
            if "001-de" not in row
        ],
    )
    with pytest.raises(DataDirError, match="expected clips with names of their own"):
        corpus.prepare(tmp_path / "data")


@pytest.mark.parametrize(
    ("leak", "edit", "counted"),
    [
        (
            "speakers",
            lambda c: c.edit(VALIDATED, lambda s: s.replace(client("fr", 2), client("fr", 4))),
            "speakers of train and dev",
        ),
        (
            "speakers",  # the same person in another language
            lambda c: c.edit(
                "en/validated.tsv", lambda s: s.replace(client("en", 3), client("fr", 4))
            ),
            "speakers of train and test",
        ),
        (
            "sentences",
            lambda c: c.edit(VALIDATED, lambda s: s.replace("“2”", "3")),
            "sentences of dev and test",
        ),
    ],
)  # fmt: skip
def test_leaks_are_counted_or_refused(
    corpus: Corpus, tmp_path: Path, leak: str, edit: Callable[[Corpus], None], counted: str
) -> None:
    edit(corpus)
    _, report = corpus.prepare(tmp_path / "data")
    assert report.shared == {counted: 1}
    assert f"in two splits: 1 {counted}" in report.lines()
    other = {"speakers": "sentences", "sentences": "speakers"}[leak]
    corpus.prepare(tmp_path / "data", forbid_leak=[other])
    with pytest.raises(DataDirError, match=f"expected no {leak} in two splits, found 1 {counted}"):
        corpus.prepare(tmp_path / "other", forbid_leak=[leak])
    assert not (tmp_path / "other").exists()


def test_test_data_in_another_script_are_kept_and_told(corpus: Corpus, tmp_path: Path) -> None:
    corpus.edit_row(VALIDATED, 3, lambda row: row.replace("Phrase “3”, dite", "Фраза"))
    splits, report = corpus.prepare(tmp_path / "data")
    assert "фраза" in splits["test"].columns["text"].values()
    assert report.noted["transcripts of fr in test that have another script than that of fr"] == 1


def test_latin_names_do_not_make_chinese_foreign(tmp_path: Path) -> None:
    corpus = make(tmp_path, ["zh"], ["en-zh"])
    for i in range(1, CLIPS + 1, 3):
        spoken, translated = f"我喜欢 Open Source 软件 {i}", f"PlayStation Portable {i} 是什么"
        corpus.edit_row(
            "zh-CN/validated.tsv", i, lambda r, t=spoken: re.sub(r"这是第 \d+ 句话。", t, r)
        )
        corpus.edit_row(
            "covost_v2.en_zh-CN.tsv", i, lambda r, t=translated: re.sub(r"第\d+句，说了。", t, r)
        )
    splits, report = corpus.prepare(tmp_path / "data")
    assert sum(d["asr/zh"] for d in report.objectives.values()) == CLIPS
    assert sum(d["st/en-zh"] for d in report.objectives.values()) == CLIPS
    texts = [t for d in splits.values() for t in d.columns["st_text"].values()]
    assert sum("PlayStation" in text for text in texts) == len(range(1, CLIPS + 1, 3))
    assert not any("script" in line for line in report.lines())


def test_losses_are_allowed_on_demand(corpus: Corpus, tmp_path: Path) -> None:
    for i in range(1, 21):
        corpus.clip("fr", i).unlink()
    splits, _ = corpus.prepare(tmp_path / "data", max_lost=0.5)
    assert sum(u.startswith("fr") for d in splits.values() for u in d.utterances) == 20


def test_clips_of_any_rate_are_resampled_in_stage_3(corpus: Corpus, tmp_path: Path) -> None:
    for lang in ("fr", "en"):
        for i in range(1, CLIPS + 1):
            corpus.clip(lang, i).unlink()
            write_tone(corpus.clip(lang, i), 0.2, 32000 if i % 2 else 44100)
    corpus.prepare(tmp_path / "data")
    data = datadir.read(tmp_path / "data" / "dev")
    format_audio(data, tmp_path / "dump", AudioFormat(16000), n_jobs=1)
    files = list((tmp_path / "dump").glob("audio/*/*.flac"))
    assert len(files) == 20
    assert {soundfile.info(path).samplerate for path in files} == {16000}


def test_every_fault_is_documented() -> None:
    text = DOCUMENTED.read_text("utf-8").partition("## Faults in CoVoST 2 / Common Voice")[2]
    section = text.partition("\n## ")[0]
    listed = re.findall(r"^\| (.+?) \| (mended|left out|told|refused)", section, re.MULTILINE)
    names = [name for name, _ in listed]
    assert len(names) == len(set(names))
    expected = {**MENDED, **LEFT_OUT, **REFUSED}
    assert set(expected) <= set(names)
