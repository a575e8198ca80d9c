# SPDX-License-Identifier: Apache-2.0
import builtins
import errno
import os
import signal
import subprocess
import sys
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


def test_fix_drops_segments_of_unknown_recordings_and_sorts(tmp_path: Path) -> None:
    data = make_data()
    data.columns["segments"] = {u: "r 0.0 1.0" for u in data.utterances}
    data.columns["wav.scp"] = {"r": "r.wav"}
    datadir.write(data, tmp_path)
    (tmp_path / "segments").write_text("fr-b-u2 r 0 1\nfr-a-u1 s 0 1\nen-c-u3 r 0 1\n")
    fixed, dropped = datadir.fix(tmp_path)
    assert fixed.utterances == ["en-c-u3", "fr-b-u2"]
    assert dropped["utt2spk"] == 1


BAD_FILES = [
    ("wav.scp", "", r"wav.scp: expected at least one line, found none"),
    ("text", "fr-a-u1 a\nen-c-u3 b\nfr-b-u2 c\n", r"text:2: .*order.* en-c-u3 after fr-a-u1; fix_"),
    ("text", "en-c-u3 a\nfr-a-u1 b\nfr-a-u1 b\n", r"text:3: fr-a-u1 occurs twice; remove"),
    ("text", "en-c-u3 a\nfr-a-u1 b\n", r"text: lacks 1 .*such as fr-b-u2.*; fix_data_dir"),
    ("text", "en-c-u3 a\nfr-a-u1\nfr-b-u2 c\n", r"text:2: expected `<id> <value>`.*write <na>"),
    ("utt2lang", "en-c-u3 en\nfr-a-u1 fr_FR\nfr-b-u2 fr\n", r"utt2lang: fr-a-u1: .*'fr_FR'; corr"),
    ("utt2lang", "en-c-u3 English\nfr-a-u1 fr\nfr-b-u2 f\n", r"'English'(?s:.*)'f'"),
    ("utt2tgt", "en-c-u3 <na>\nfr-a-u1 EN\nfr-b-u2 en\n", r"utt2tgt: fr-a-u1: .*found 'EN'"),
    ("utt2speed", "en-c-u3 1\nfr-a-u1 9\nfr-b-u2 x\n", r"fr-a-u1: .*'9'(?s:.*)fr-b-u2: .*'x'"),
    ("utt2num_samples", "en-c-u3 1\nfr-a-u1 0\nfr-b-u2 2.5\n", r"found '0'(?s:.*)found '2.5'"),
    ("spk2utt", "en-c en-c-u3\n", r"spk2utt: expected the same speakers .*; fix_data_dir"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_file_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    datadir.write(make_data(), tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(DataDirError, match=message) as error:
        datadir.read(tmp_path)
    assert str(tmp_path / name) in str(error.value)


def test_other_encoding_is_located(tmp_path: Path) -> None:
    datadir.write(make_data(), tmp_path)
    (tmp_path / "text").write_bytes("en-c-u3 a\nfr-a-u1 \xe9t\xe9\n".encode("latin-1"))
    with pytest.raises(DataDirError, match=r"text:2: expected UTF-8, found byte 0xe9"):
        datadir.read(tmp_path)


def test_tabs_and_other_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes("a\tb c\r\nd 那\u3000个\n".encode())
    assert datadir.read_table(tmp_path / "t") == {"a": "b c", "d": "那\u3000个"}


@pytest.mark.parametrize(("key", "value"), [("a b", "c"), ("a", "b\nc"), ("a", " ")])
def test_what_cannot_be_read_back_is_not_written(tmp_path: Path, key: str, value: str) -> None:
    data = make_data().subset(lambda u: u == "en-c-u3")
    data.columns = {name: {key: c["en-c-u3"]} for name, c in data.columns.items()}
    data.columns["text"] = {key: value}
    with pytest.raises(DataDirError, match="expected an id without spaces and a value in one line"):
        datadir.write(data, tmp_path / "d")


def test_full_disk_leaves_the_old_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datadir.write(make_data(), tmp_path / "d")
    before = {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()}
    real_open = builtins.open

    def open_on_full_disk(path, *args, **kwargs):
        file = real_open(path, *args, **kwargs)
        if "utt2lang" in str(path):
            file.write("half a li")
            file.close()
            raise OSError(errno.ENOSPC, "No space left on device")
        return file

    monkeypatch.setattr(builtins, "open", open_on_full_disk)
    changed = make_data()
    changed.columns["text"]["en-c-u3"] = "other"
    with pytest.raises(OSError, match=r"No space left .*not written.*utt2lang"):
        datadir.write(changed, tmp_path / "d")
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def files_of(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.is_file()}


@pytest.mark.parametrize("error", [KeyboardInterrupt("Ctrl-C"), OSError(errno.EIO, "disk")])
@pytest.mark.parametrize(
    ("name", "where"),
    [
        *[(name, "d") for name in (*datadir.REQUIRED, "utt2speed", "spk2utt")],
        *[(name, ".new") for name in (*datadir.REQUIRED, "utt2num_samples", "spk2utt")],
    ],
)
def test_interrupted_exchange_leaves_the_old_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str, error: BaseException
) -> None:
    target, data, changed = tmp_path / "d", make_data(), make_data()
    data.columns["utt2speed"] = dict.fromkeys(data.utterances, "1.1")
    changed.columns["utt2num_samples"] = dict.fromkeys(changed.utterances, "9")
    datadir.write(data, target)
    (target / "audio").mkdir()
    before = files_of(target)
    real_replace, raised = os.replace, []

    def replace(source, destination):
        if (Path(source).parent.name, Path(source).name) == (where, name) and not raised:
            raised.append(source)
            raise error
        real_replace(source, destination)

    monkeypatch.setattr(os, "replace", replace)
    message = {OSError: r"disk; the directory is as it was, run again .*d'"}.get(type(error), "C")
    with pytest.raises(type(error), match=message):
        datadir.write(changed, target)
    monkeypatch.undo()
    assert files_of(target) == before
    assert datadir.read(target).columns == data.columns
    assert [p.name for p in target.iterdir() if p.is_dir()] == ["audio"]


KILLED = """
import os, signal, sys
from pathlib import Path
from espnet_objsoup.data import datadir
real_replace = os.replace
def replace(source, target):
    if Path(target) == Path(sys.argv[1]).resolve() / "utt2lang":
        os.kill(os.getpid(), signal.SIGKILL)
    real_replace(source, target)
data = datadir.read(Path(sys.argv[1]))
os.replace = replace
datadir.write(data, Path(sys.argv[1]))
"""


def test_killed_exchange_is_not_readable(tmp_path: Path) -> None:
    target = tmp_path / "d"
    datadir.write(make_data(), target)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(DataDirError, match=r"wav.scp: not found"):
        datadir.read(target)
    datadir.write(make_data(), target)
    assert datadir.read(target).columns == make_data().columns
    assert not [p.name for p in target.iterdir() if p.is_dir()]


@pytest.mark.parametrize("there", [True, False], ids=["with old files", "dangling"])
def test_link_to_another_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    other = tmp_path / "other"
    if there:
        datadir.write(make_data(), other / "d")
    (tmp_path / "link").symlink_to(other / "d")
    real_replace = os.replace

    def replace(source, destination):
        if (other in Path(source).resolve().parents) != (
            other in Path(destination).resolve().parents
        ):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real_replace(source, destination)

    monkeypatch.setattr(os, "replace", replace)
    changed = make_data()
    changed.columns["text"]["en-c-u3"] = "other"
    datadir.write(changed, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert datadir.read(other / "d").columns == changed.columns


@pytest.mark.parametrize("name", ["text", "utt2speed"])
def test_folder_in_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    datadir.write(make_data(), tmp_path / "d")
    (tmp_path / "d" / name).unlink(missing_ok=True)
    (tmp_path / "d" / name).mkdir()
    before = files_of(tmp_path / "d")
    with pytest.raises(DataDirError, match=rf"d/{name}: expected a file .* folder; move it away"):
        datadir.write(make_data(), tmp_path / "d")
    assert files_of(tmp_path / "d") == before
    assert (tmp_path / "d" / name).is_dir()


def test_failure_leaves_no_new_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(datadir, "write_table", fail)
    with pytest.raises(OSError, match="No space left"):
        datadir.write(make_data(), tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_combine_keeps_speeds_and_shared_recordings() -> None:
    data = make_data()
    french = data.subset(lambda u: u.startswith("fr"))
    english = data.subset(lambda u: u.startswith("en"))
    french.columns["utt2speed"] = dict.fromkeys(french.columns["utt2spk"], "0.9")
    french.columns["utt2num_samples"] = dict.fromkeys(french.columns["utt2spk"], "9")
    for part in (french, english):
        part.columns["segments"] = dict.fromkeys(part.columns["utt2spk"], "r 0 1")
        part.columns["wav.scp"] = {"r": "r.wav"}
    whole = datadir.combine([(Path("a"), french), (Path("b"), english)])
    assert whole.columns["wav.scp"] == {"r": "r.wav"}
    assert whole.columns["utt2speed"] == {"fr-a-u1": "0.9", "fr-b-u2": "0.9", "en-c-u3": "1"}
    assert "utt2num_samples" not in whole.columns
    english.columns["wav.scp"] = {"r": "other.wav"}
    with pytest.raises(DataDirError, match=r"wav.scp: 1 ids .*such as r"):
        datadir.combine([(Path("a"), french), (Path("b"), english)])
    del english.columns["segments"]
    with pytest.raises(DataDirError, match="found none in b"):
        datadir.combine([(Path("a"), french), (Path("b"), english)])


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
