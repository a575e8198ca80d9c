# SPDX-License-Identifier: Apache-2.0
"""Files of tensors that are whole or not there, and links that always point somewhere.

A kill leaves the old file or the new one; with `fsync` so does a power cut.
"""

import errno
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import humanfriendly

from espnet_objsoup.data.files import replacing

# Where `average_nbest_models` works; removed at the start of a training that was killed there.
AVERAGING_DIR = ".averaging.tmp"
# Of a tensor in a file of torch.save: its headers, padding and description.
_OVERHEAD_BYTES = 512


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; those before it are as they were."""


class DamagedCheckpointError(ValueError):
    """A file is not what was written."""


def save(target: Path, state: Any) -> None:
    """Write a file of tensors as `torch.save` does, whole or not at all, and for good.

    Raises:
        CheckpointWriteError: if the disk does not take it; `target` is as before.
    """
    with _explained(target, state):
        with replacing(target) as temporary, open(temporary, "wb") as file:
            _serialise(state, file)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(target.parent)


def _serialise(state: Any, file: Any) -> None:
    import torch

    try:
        torch.save(state, file)
    except RuntimeError as err:
        # PyTorch's writer hides what write() said under a complaint about positions.
        cause = err.__context__
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        if cause is None:
            raise
        raise cause from err


@contextmanager
def _explained(target: Path, state: Any) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        needed = humanfriendly.format_size(size_of(state), binary=True)
        free = humanfriendly.format_size(shutil.disk_usage(target.parent).free, binary=True)
        reason = os.strerror(err.errno) if err.errno else str(err)
        raise CheckpointWriteError(
            err.errno,
            f"{reason}; a checkpoint of about {needed} could not be written, {free} are free. "
            "Nothing is lost: earlier checkpoints are as they were. Make room (or mend the disk) "
            "and train again with --resume true",
            str(target),
        ) from err


def size_of(state: Any) -> int:
    """About the size of a state's file in bytes."""
    from torch import Tensor
    from torch.utils._pytree import tree_leaves

    tensors = [x for x in tree_leaves(state) if isinstance(x, Tensor)]
    return sum(x.numel() * x.element_size() + _OVERHEAD_BYTES for x in tensors)


# What `zipfile` raises for damage; RuntimeError where a bit says that an entry is encrypted.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    ValueError,
    RuntimeError,
    struct.error,
)


def sync_directory(directory: Path) -> None:
    """Make renames last through a power cut, where the file system can."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse it for directories
            os.fsync(handle)
    finally:
        os.close(handle)


def keep_as(path: Path, kept: Path) -> None:
    """Give a file a second name, replacing what had it; it takes no more room."""
    temporary = kept.with_name(f".{kept.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        os.replace(path, kept)  # a file system without hard links: the one name for the other
        return
    os.replace(temporary, kept)
    # Where both are one file already, rename() does nothing and leaves the temporary name.
    temporary.unlink(missing_ok=True)


def replace_link(link: Path, target: str) -> None:
    """Point a symbolic link elsewhere; it exists at every instant."""
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)


def check_intact(path: Path) -> None:
    """Compare a file of `torch.save` with the checksums that it holds.

    Loading does not: PyTorch reads zeros where a disk has lost a part.

    Raises:
        DamagedCheckpointError: saying what is wrong.
        OSError: if there is no such file, or it may not be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except _DAMAGE as err:
        raise DamagedCheckpointError(f"{path}: damaged ({err})") from err
    except OSError as err:
        # A wrong bit in the table of contents leads to places that are none, a bad sector to EIO.
        if err.errno in (errno.ENOENT, errno.EACCES, errno.EPERM):
            raise
        raise DamagedCheckpointError(f"{path}: damaged ({err})") from err
    if wrong is not None:
        raise DamagedCheckpointError(f"{path}: damaged (wrong checksum of {wrong})")


def remove_leftovers(directory: Path) -> list[Path]:
    """Remove what a killed training left half-written.

    Returns:
        The names that were there.
    """
    found = sorted(directory.glob(".*.pth.tmp")) + sorted(directory.glob(AVERAGING_DIR))
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return found
