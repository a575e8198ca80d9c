# SPDX-License-Identifier: Apache-2.0
"""Disks that take no more."""

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from espnet_objsoup.data.files import naming_place, room_left, write_bytes

from ..full_disk import files_up_to


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "x", b"old")
    with files_up_to(1000), pytest.raises(OSError, match=r"was not written, run again.*/x'"):
        write_bytes(tmp_path / "x", b"n" * 5000)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_error_without_a_name_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=5 << 19)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    place = tmp_path / "none" / "log"
    message = r"No space .*\(2.5 MiB are free: make room\); run again"
    with (
        pytest.raises(OSError, match=message) as caught,
        naming_place(place),
        open("/dev/full", "w") as file,
    ):
        file.write("x")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(place))
    usage.free = 1 << 40
    assert room_left(place) == ""


def test_error_with_a_name_keeps_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"), naming_place(tmp_path):
        os.stat(tmp_path / "nowhere")
