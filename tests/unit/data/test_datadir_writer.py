# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from espnet_objsoup.data import datadir, datadir_writer
from espnet_objsoup.data.corpora.rows import Utterance, rows_of, to_data_dir
from espnet_objsoup.data.datadir import DataDirError
from espnet_objsoup.data.datadir_writer import row_writer

UTTERANCES = [
    Utterance(f"u{i}", f"fr-s{i // 3}", f"/clips/{i}.mp3", "fr", f"mots {i}", {"en": f"Words {i}."})
    for i in range(10)
]


def write(directory: Path, utterances: list[Utterance]) -> datadir_writer.RowWriter:
    with row_writer(directory) as writer:
        for item in utterances:
            for utterance, row in rows_of(item):
                writer.add(utterance, row)
    return writer


@pytest.mark.parametrize("chunk", [1, 3, 10, 2000])
def test_files_are_those_of_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(datadir_writer, "_CHUNK", chunk)
    writer = write(tmp_path / "rows", UTTERANCES)
    datadir.write(to_data_dir(UTTERANCES), tmp_path / "whole")
    files = {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    assert {p.name: p.read_bytes() for p in (tmp_path / "rows").iterdir()} == files
    assert "spk2utt" in files
    assert (writer.rows, writer.objectives) == (10, {"asr/fr": 10, "st/fr-en": 10})


@pytest.mark.parametrize(
    ("utterances", "message"),
    [
        ([UTTERANCES[1], UTTERANCES[0]], "bytewise order"),
        ([UTTERANCES[0], UTTERANCES[0]], "two recordings may have the same name"),
        ([Utterance("1", "b", "/1", "fr"), Utterance("2", "b+", "/2", "fr")], "bytewise order"),
        ([Utterance("1", "b", "/1", "french")], "expected a code of two or three letters"),
        ([Utterance("1", "b", "/1", "fr", "two\nlines")], "a value in one line"),
        ([Utterance("1 2", "b", "/1", "fr")], "an id without spaces"),
        ([], "at least one utterance"),
    ],
)
def test_wrong_rows_leave_the_directory_as_it_was(
    tmp_path: Path, utterances: list[Utterance], message: str
) -> None:
    write(tmp_path / "d", UTTERANCES)
    before = {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()}
    with pytest.raises(DataDirError, match=message):
        write(tmp_path / "d", utterances)
    assert {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()} == before


def test_speakers_out_of_order_are_refused(tmp_path: Path) -> None:
    rows = dict(item for u in UTTERANCES[:2] for item in rows_of(u))
    first, second = rows
    rows[second]["utt2spk"] = "a"
    with row_writer(tmp_path / "d") as writer:
        writer.add(first, rows[first])
        with pytest.raises(DataDirError, match="speakers in the order"):
            writer.add(second, rows[second])
