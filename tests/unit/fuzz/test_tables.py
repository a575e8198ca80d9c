# SPDX-License-Identifier: Apache-2.0
"""Files of Kaldi's kind and data directories."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio_io import ark_entry, espnet_type, is_pipe
from espnet_objsoup.data.corpora.rows import Utterance, to_data_dir
from espnet_objsoup.data.datadir import DataDirError
from espnet_objsoup.data.tables import read_table, write_table

from . import contents, damaged, directory, fuzz, outcome, texts

ids = st.text(st.characters(codec="utf-8", exclude_characters=" \t\r\n"), min_size=1, max_size=8)
lines = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)
whole_values = lines.map(lambda value: value.strip(" \t")).filter(bool)


@fuzz()
@given(contents)
def test_table(content: bytes) -> None:
    with directory() as folder:
        path = folder / "text"
        path.write_bytes(content)
        table = outcome(lambda: read_table(path), DataDirError, rf"{re.escape(str(path))}:\d+: ")
        if table is not None:
            write_table(table, path)
            assert read_table(path, check_order=True) == table


@fuzz()
@given(st.dictionaries(ids, whole_values, max_size=6))
def test_table_is_read_as_it_was_written(table: dict[str, str]) -> None:
    with directory() as folder:
        write_table(table, folder / "text")
        assert read_table(folder / "text", check_order=True) == table


codes = st.sampled_from(["fr", "de", "yue"])


@st.composite
def data_dirs(draw: st.DrawFn) -> datadir.DataDir:
    names = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    return to_data_dir(
        Utterance(
            name,
            draw(st.sampled_from(["s", "é", "S-1"])),
            draw(whole_values.filter(lambda value: not is_pipe(value))),
            draw(codes),
            draw(whole_values),
            draw(st.dictionaries(codes, whole_values.filter(lambda v: v != "<na>"), max_size=2)),
        )
        for name in names
    )


@fuzz(2)
@given(data_dirs())
def test_data_directory_is_read_as_it_was_written(data: datadir.DataDir) -> None:
    with directory() as folder:
        if outcome(lambda: [datadir.write(data, folder / "d")], DataDirError, "expected"):
            found = datadir.read(folder / "d")
            assert found.columns == data.columns
            assert datadir.fix(folder / "d") == (found, {})


WHOLE = to_data_dir(
    [
        Utterance("u1", "fr-a", "a.wav", "fr", "le chat", {"en": "the cat"}),
        Utterance("u2", "fr-b", "b.wav", "fr", "le chien", {"en": "the dog"}),
        Utterance("u3", "en-c", "c.wav", "en", "hello"),
    ]
)
OPTIONAL = {
    "segments": b"en-c-u3 r1 0 1.5\nfr-a-u1 r1 1.5 2\nfr-b-u2 r1 2 inf\n",
    "utt2num_samples": b"en-c-u3 1\nfr-a-u1 2\nfr-b-u2 3\n",
    "utt2speed": b"en-c-u3 1\nfr-a-u1 0.9\nfr-b-u2 1.1\n",
}


@fuzz(2)
@given(st.data())
def test_damaged_data_directory(data: st.DataObject) -> None:
    with directory() as folder:
        datadir.write(WHOLE, folder)
        for name in data.draw(st.sets(st.sampled_from(sorted(OPTIONAL)))):
            (folder / name).write_bytes(data.draw(damaged(OPTIONAL[name])))
        names = sorted(path.name for path in folder.iterdir())
        for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2)):
            path = folder / name
            if data.draw(st.integers(0, 9)) == 0:
                path.unlink(missing_ok=True)
            elif path.exists():
                path.write_bytes(data.draw(st.one_of(contents, damaged(path.read_bytes()))))
        place = re.escape(str(folder))
        found = outcome(lambda: datadir.read(folder), DataDirError, place)
        if found is not None:
            assert not any(map(is_pipe, found.columns["wav.scp"].values()))
        fixed = outcome(lambda: datadir.fix(folder), DataDirError, place)
        if fixed is not None and outcome(
            lambda: [datadir.write(fixed[0], folder / "fixed")], DataDirError, place
        ):
            assert outcome(lambda: datadir.read(folder / "fixed", True), DataDirError, place)


@fuzz()
@given(st.lists(st.tuples(ids, st.one_of(texts, st.just("x.ark:12"))), max_size=4))
def test_type_of_wav_scp(rows: list[tuple[str, str]]) -> None:
    """No command is ever taken for audio, however it is divided from its id."""
    with directory() as folder:
        path = folder / "wav.scp"
        path.write_bytes("".join(f"{key} {value}\n" for key, value in rows).encode())
        found = outcome(lambda: espnet_type(path), ValueError, re.escape(str(path)))
        if found is not None:
            # As kaldiio and ESPnet divide lines.
            with open(path, encoding="utf-8") as file:
                values = [line.split(None, 1)[-1].strip() for line in file if line.strip()]
            assert not any(value[-1:] == "|" or value[:1] == "|" for value in values)


@fuzz()
@given(texts, st.integers(0, 10**30))
def test_place_in_an_archive(path: str, offset: int) -> None:
    location = f"{path}.ark:{offset}"
    found = ark_entry(location)
    if found is not None:
        assert f"{found[0]}:{found[1]}" == location
        assert not is_pipe(location)


def test_example_directory_is_valid(tmp_path: Path) -> None:
    datadir.write(WHOLE, tmp_path / "d")
    assert datadir.read(tmp_path / "d").columns == WHOLE.columns
