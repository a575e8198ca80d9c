# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from espnet_objsoup.data import datadir
from espnet_objsoup.data.datadir import DataDirError

from .factory import make_data


def test_written_directory_reads_back(tmp_path: Path) -> None:
    data = make_data()
    datadir.write(data, tmp_path / "train")
    assert datadir.read(tmp_path / "train").columns == data.columns
    assert (tmp_path / "train" / "spk2utt").read_text() == (
        "en-c en-c-u3\nfr-a fr-a-u1\nfr-b fr-b-u2\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["train"]


def test_order_is_bytewise(tmp_path: Path) -> None:
    datadir.write_table({"a-b": "1", "aé": "2", "aB": "3", "a_b": "4"}, tmp_path / "t")
    keys = [line.split()[0] for line in (tmp_path / "t").read_text("utf-8").splitlines()]
    assert keys == sorted(keys, key=str.encode) == ["a-b", "aB", "a_b", "aé"]


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    datadir.write(make_data(), tmp_path)
    (tmp_path / "text").write_text("en-c-u3 hello\nen-c-u3 again\nfr-a-u1\n")
    (tmp_path / "st_text").unlink()
    with pytest.raises(DataDirError) as error:
        datadir.read(tmp_path)
    message = str(error.value)
    assert f"{tmp_path / 'text'}:2" in message
    assert f"{tmp_path / 'text'}:3" in message
    assert "st_text" in message


def test_files_with_different_keys_are_named(tmp_path: Path) -> None:
    datadir.write(make_data(), tmp_path)
    (tmp_path / "text").write_text("en-c-u3 hello\nzz extra\n")
    with pytest.raises(DataDirError, match="text: lacks 2") as error:
        datadir.read(tmp_path)
    assert "text: adds 1" in str(error.value)


def test_translation_without_language_is_a_problem(tmp_path: Path) -> None:
    data = make_data()
    data.columns["utt2tgt"]["fr-a-u1"] = "<na>"
    with pytest.raises(DataDirError, match="utt2tgt: fr-a-u1"):
        datadir.write(data, tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_commands_in_wav_scp_are_refused_unless_allowed(tmp_path: Path) -> None:
    data = make_data()
    data.columns["wav.scp"]["fr-a-u1"] = "rm -rf x |"
    datadir.write(data, tmp_path)
    with pytest.raises(DataDirError, match="found a command"):
        datadir.read(tmp_path)
    assert datadir.read(tmp_path, allow_pipes=True).utterances


@pytest.mark.parametrize("value", ["r 1.0", "r 2.0 1.0", "r x 1", "other 0 1"])
def test_bad_segments_are_refused(tmp_path: Path, value: str) -> None:
    data = make_data()
    data.columns["segments"] = {u: "r 0.0 1.0" for u in data.utterances}
    data.columns["wav.scp"] = {"r": "r.wav"}
    datadir.write(data, tmp_path)
    (tmp_path / "segments").write_text(
        "".join(f"{u} {value if i == 0 else 'r 0 1'}\n" for i, u in enumerate(data.utterances))
    )
    with pytest.raises(DataDirError, match="segments: en-c-u3"):
        datadir.read(tmp_path)


def test_fix_keeps_what_all_files_have(tmp_path: Path) -> None:
    datadir.write(make_data(), tmp_path)
    (tmp_path / "text").write_text("fr-a-u1 le chat\nen-c-u3 hello\n")
    fixed, dropped = datadir.fix(tmp_path)
    assert fixed.utterances == ["en-c-u3", "fr-a-u1"]
    assert dropped["wav.scp"] == 1
    assert "text" not in dropped


def test_subset_keeps_only_recordings_in_use() -> None:
    data = make_data()
    data.columns["segments"] = {"en-c-u3": "r1 0 1", "fr-a-u1": "r2 0 1", "fr-b-u2": "r2 1 2"}
    data.columns["wav.scp"] = {"r1": "1.wav", "r2": "2.wav"}
    assert data.subset(lambda u: u.startswith("fr")).columns["wav.scp"] == {"r2": "2.wav"}


def test_combine_refuses_repeated_utterances() -> None:
    data = make_data()
    with pytest.raises(DataDirError, match="in another directory"):
        datadir.combine([(Path("a"), data), (Path("b"), data)])
    french = data.subset(lambda u: u.startswith("fr"))
    english = data.subset(lambda u: u.startswith("en"))
    whole = datadir.combine([(Path("a"), french), (Path("b"), english)])
    assert whole.utterances == data.utterances


def test_file_of_an_earlier_run_does_not_survive(tmp_path: Path) -> None:
    data = make_data()
    data.columns["utt2speed"] = dict.fromkeys(data.utterances, "1.1")
    datadir.write(data, tmp_path)
    datadir.write(make_data(), tmp_path)
    assert not (tmp_path / "utt2speed").exists()
