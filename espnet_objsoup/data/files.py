# SPDX-License-Identifier: Apache-2.0
"""Files that hold old or new content, never half of it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Less room than this is worth a word.
_LITTLE = 64 << 20


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Write a file through a temporary name beside it.

    Args:
        target: the file, which keeps its content until the block ends without error.

    Yields:
        Name to write to.

    Raises:
        OSError: if writing fails, naming `target`.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as err:
        temporary.unlink(missing_ok=True)
        # An error of write() does not say which file it was.
        reason = f"{err.strerror or err}; the file was not written, run again when this is mended"
        raise OSError(err.errno, reason, str(target)) from err
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def naming_place(place: Path) -> Iterator[None]:
    """Errors of files in the block say where, how much room there is, and what to do.

    Raises:
        OSError: those that name no file, as that of write() on a full disk, with `place`.
    """
    try:
        yield
    except OSError as err:
        if err.filename is not None or err.errno is None:
            raise
        reason = f"{os.strerror(err.errno)}{room_left(place)}; run again when this is mended"
        raise OSError(err.errno, reason, str(place)) from err


def room_left(place: Path) -> str:
    """What to say of the room on a disk: nothing where there is enough for files of text."""
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    return f" ({free / (1 << 20):.1f} MiB are free: make room)" if free < _LITTLE else ""


def write_bytes(target: Path, content: bytes) -> None:
    """Write a file whole or not at all; errors as `replacing`."""
    with replacing(target) as temporary, open(temporary, "wb") as file:
        file.write(content)
