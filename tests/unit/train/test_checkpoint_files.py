# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files, without a training around them."""

import errno
import os
import resource
from pathlib import Path

import pytest
import torch

from espnet_objsoup.train import checkpoint_files as files

OLD, NEW = {"x": torch.zeros(3)}, {"x": torch.arange(100000.0), "y": {"n": 1}}


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def truncate(content: bytearray) -> bytearray:
    return content[: len(content) // 2]


def zero(content: bytearray) -> bytearray:
    """A page of zeros in the middle, where tensors are: torch.load does not notice."""
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(4096)
    return content


def garbage(content: bytearray) -> bytearray:
    return bytearray(b"\xa5" * len(content))


def flip(content: bytearray) -> bytearray:
    content[len(content) // 2] ^= 1
    return content


DAMAGES = [truncate, zero, garbage, flip, lambda content: bytearray()]


def damage(path: Path, how: object) -> None:
    content = how(bytearray(path.read_bytes()))
    path.unlink()  # it may have a second name
    path.write_bytes(content)


@pytest.mark.parametrize("how", DAMAGES, ids=["truncated", "zeroed", "garbage", "flipped", "empty"])
def test_damage_is_found(tmp_path: Path, how: object) -> None:
    path = tmp_path / "x.pth"
    files.save(path, NEW)
    files.check_intact(path)
    damage(path, how)
    with pytest.raises(files.DamagedCheckpointError, match=r"x\.pth: damaged"):
        files.check_intact(path)


def test_pytorch_itself_does_not_notice_zeros(tmp_path: Path) -> None:
    """The reason for comparing checksums; remove the check if this fails one day."""
    path = tmp_path / "x.pth"
    files.save(path, NEW)
    damage(path, zero)
    assert not torch.equal(load(path)["x"], NEW["x"])


def test_disk_full_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """A limit on the size of files makes write() itself fail, in the middle of the file."""
    path = tmp_path / "x.pth"
    files.save(path, OLD)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(files.CheckpointWriteError) as caught:
            files.save(path, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert "about 391.12 KiB could not be written" in str(caught.value)
    assert "are free. Nothing is lost" in str(caught.value)
    assert os.listdir(tmp_path) == ["x.pth"]
    assert torch.equal(load(path)["x"], OLD["x"])


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_no_space_at_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "x.pth"
    files.save(path, OLD)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(files.CheckpointWriteError, match="No space left on device"):
            files.save(path, NEW)
    assert os.listdir(tmp_path) == ["x.pth"]
    assert torch.equal(load(path)["x"], OLD["x"])


def test_what_cannot_be_saved_is_not_called_a_disk_error(tmp_path: Path) -> None:
    with pytest.raises((TypeError, AttributeError)):
        files.save(tmp_path / "x.pth", {"x": (i for i in range(3))})
    assert os.listdir(tmp_path) == []


def test_links_are_replaced_whatever_was_there(tmp_path: Path) -> None:
    link = tmp_path / "latest.pth"
    for target in ("1epoch.pth", "2epoch.pth"):
        files.replace_link(link, target)
        assert os.readlink(link) == target
    link.unlink()
    link.write_text("a file")
    files.replace_link(link, "3epoch.pth")
    assert os.readlink(link) == "3epoch.pth"
    assert os.listdir(tmp_path) == ["latest.pth"]


def test_second_name_and_the_file_system_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept = tmp_path / "x.pth", tmp_path / "previous.pth"
    kept.write_text("older")
    path.write_text("old")
    for _ in range(2):  # also where both are one file already
        files.keep_as(path, kept)
        assert path.samefile(kept)
    assert sorted(os.listdir(tmp_path)) == ["previous.pth", "x.pth"]

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    path.unlink()
    path.write_text("new")
    files.keep_as(path, kept)
    assert kept.read_text() == "new"
    assert not path.exists()


def test_leftovers_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.pth.tmp").write_text("half")
    (tmp_path / files.AVERAGING_DIR).mkdir()
    (tmp_path / files.AVERAGING_DIR / "valid.loss.ave_2best.pth").write_text("half")
    (tmp_path / "checkpoint.pth").write_text("whole")
    removed = files.remove_leftovers(tmp_path)
    assert [path.name for path in removed] == [".checkpoint.pth.tmp", ".averaging.tmp"]
    assert os.listdir(tmp_path) == ["checkpoint.pth"]


def test_any_wrong_bit_in_the_table_of_contents_is_damage(tmp_path: Path) -> None:
    """No other error, which would end training instead of taking the checkpoint before."""
    path = tmp_path / "x.pth"
    torch.save({"a": torch.arange(4)}, path)
    whole = path.read_bytes()
    found = 0
    for place in range(whole.index(b"PK\x01\x02"), len(whole)):
        for bit in range(0, 8, 2):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            try:
                files.check_intact(path)
            except files.DamagedCheckpointError:
                found += 1
    assert found > 100
