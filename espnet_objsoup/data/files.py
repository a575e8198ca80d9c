# SPDX-License-Identifier: Apache-2.0
"""Files that hold old or new content, never half of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


def write_bytes(target: Path, content: bytes) -> None:
    """Write a file whole or not at all; errors as `replacing`."""
    with replacing(target) as temporary, open(temporary, "wb") as file:
        file.write(content)
