# SPDX-License-Identifier: Apache-2.0
import io
import os
import sys
from pathlib import Path

import pytest

from espnet_objsoup.transcription.inputs import (
    UsageError,
    check_unique,
    find_inputs,
    read_list,
    stdin_audio,
)


class Pipe:
    """Standard input that is no terminal."""

    def __init__(self, content: bytes, is_terminal: bool = False) -> None:
        self.buffer = io.BytesIO(content)
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.wav", "a.FLAC", "notes.txt", ".hidden.wav", "day1/c.mp3", ".trash/d.wav"):
        path = tmp_path / "talks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "talks"


def test_folders(folder: Path) -> None:
    found = find_inputs([str(folder)], recursive=False)
    assert [file.name for file in found.files] == [f"{folder}/a.FLAC", f"{folder}/b.wav"]
    assert found.has_folder
    found = find_inputs([str(folder)], recursive=True)
    assert [str(file.relative) for file in found.files] == ["a", "b", "day1/c"]
    assert found.missing == {}


def test_files_are_read_whatever_their_names_are(folder: Path) -> None:
    found = find_inputs([f"{folder}/notes.txt", f"{folder}/.hidden.wav"], recursive=False)
    assert [str(file.relative) for file in found.files] == ["notes", ".hidden"]
    assert not found.has_folder


def test_none_is_read_twice(folder: Path) -> None:
    (folder / "link.wav").symlink_to("b.wav")
    names = [f"{folder}/b.wav", str(folder), f"{folder}/../talks/b.wav"]
    found = find_inputs(names, recursive=False)
    assert [file.name for file in found.files] == [f"{folder}/b.wav", f"{folder}/a.FLAC"]


def test_missing_files_do_not_stop_others(folder: Path) -> None:
    (folder / "empty").mkdir()
    found = find_inputs(["none.wav", f"{folder}/empty", f"{folder}/b.wav"], recursive=False)
    assert [file.name for file in found.files] == [f"{folder}/b.wav"]
    assert "nothing there" in found.missing["none.wav"]
    assert "--recursive" in found.missing[f"{folder}/empty"]


def test_a_folder_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def failing(path: str) -> object:
        if str(path).endswith("day1"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    found = find_inputs([str(folder)], recursive=True)
    assert "Permission denied" in found.missing[f"{folder}/day1"]
    assert [str(file.relative) for file in found.files] == ["a", "b"]


def test_outputs_need_names_of_their_own(folder: Path) -> None:
    (folder / "B.mp3").touch()
    with pytest.raises(UsageError, match=r"talks/B\.mp3 and .*talks/b\.wav"):
        check_unique(find_inputs([str(folder)], recursive=False).files)
    (folder / "B.mp3").unlink()
    check_unique(find_inputs([str(folder)], recursive=True).files)


def test_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "a b.wav\n\ncafé.wav\n"
    (tmp_path / "list").write_text(content)
    assert read_list(f"{tmp_path}/list") == ["a b.wav", "café.wav"]
    monkeypatch.setattr(sys, "stdin", Pipe(content.encode()))
    assert read_list("-") == ["a b.wav", "café.wav"]
    (tmp_path / "audio").write_bytes(b"RIFF\xff\xfe\x00")
    with pytest.raises(UsageError, match="byte 4"):
        read_list(f"{tmp_path}/audio")
    with pytest.raises(OSError, match="none"):
        read_list(f"{tmp_path}/none")


def test_standard_input_is_a_file_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Pipe(b"RIFF" * 1000000))
    with stdin_audio(["-"]) as path:
        assert path is not None
        assert path.read_bytes() == b"RIFF" * 1000000
        (file,) = find_inputs(["-"], recursive=False, stdin_path=path).files
        assert (file.path, file.name) == (path, "stdin")
    assert not path.exists()
    with stdin_audio(["a.wav"]) as path:
        assert path is None


def test_standard_input_that_cannot_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Pipe(b"", is_terminal=True))
    with pytest.raises(UsageError, match="terminal"), stdin_audio(["-"]):
        pass
    with pytest.raises(UsageError, match="at most once"), stdin_audio(["-", "-"]):
        pass
