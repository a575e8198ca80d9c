# SPDX-License-Identifier: Apache-2.0
"""Where models are unpacked to, and how files get there whole or not at all."""

import hashlib
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from espnet_objsoup.zoo.archive import unpack_file
from espnet_objsoup.zoo.errors import ModelError

VARIABLE = "OBJSOUP_CACHE"
_NEW = ".new-"
_ABANDONED_S = 24 * 3600


def cache_root(cache_dir: Path | None = None) -> Path:
    """The cache: what is given, else `$OBJSOUP_CACHE`, else `~/.cache/espnet_objsoup`."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser().absolute()
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base).absolute() / "espnet_objsoup"


@contextmanager
def new_directory(parent: Path) -> Iterator[Path]:
    """A directory with a name of its own, gone at the end unless it was renamed.

    Raises:
        ModelError: if it cannot be written.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(parent)
        path = Path(tempfile.mkdtemp(prefix=_NEW, dir=parent))
    except OSError as err:
        raise ModelError(
            f"{parent}: expected a directory to unpack models to, found {err.strerror or err}; "
            f"name another one by cache_dir or the variable {VARIABLE}"
        ) from err
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Directories of processes that were killed."""
    oldest = time.time() - _ABANDONED_S
    for path in parent.glob(f"{_NEW}*"):
        with suppress(OSError):  # another process removes it, too
            if path.stat().st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True)


def keep_file(content: bytes, directory: Path, suffix: str) -> Path:
    """A file named after its content; several processes may write it at once.

    Raises:
        ModelError: if it cannot be written.
    """
    path = directory / (hashlib.sha256(content).hexdigest()[:32] + suffix)
    if path.is_file() and path.read_bytes() == content:
        return path
    with new_directory(directory) as temporary:
        written = temporary / path.name
        written.write_bytes(content)
        os.replace(written, path)
    return path


def unpack_to_cache(archive: Path, cache_dir: Path | None = None) -> Path:
    """Directory of an unpacked model, named after the archive's content.

    An archive that was unpacked before is not unpacked again; one that has changed is another. Two
    processes may do this at once: a directory gets its name when it is complete.

    Args:
        archive: zip of a model.
        cache_dir: as in `cache_root`.

    Raises:
        ModelError: if the archive or the cache cannot be used.
    """
    models = cache_root(cache_dir) / "models"
    try:
        with open(archive, "rb") as file:
            target = models / hashlib.file_digest(file, "sha256").hexdigest()[:32]
            if _is_whole(file, target):
                return target
            with new_directory(models) as temporary:
                unpacked = temporary / "model"
                unpack_file(file, str(archive), unpacked)
                _put(unpacked, target, file, temporary / "old")
    except OSError as err:
        raise ModelError(f"{err.filename or archive}: {err.strerror or err}") from err
    return target


def _put(unpacked: Path, target: Path, file: BinaryIO, old: Path) -> None:
    """Give a directory its name; another process may have been faster."""
    for _ in range(10):
        try:
            unpacked.rename(target)
        except OSError:
            if _is_whole(file, target):
                return
            # Damaged since: moved away as a whole, so that nobody sees a part of it.
            try:
                target.rename(old)
            except OSError:
                shutil.rmtree(old, ignore_errors=True)
        else:
            return
    raise ModelError(f"{target}: expected to replace a damaged model, found it in use; remove it")


def _is_whole(file: BinaryIO, target: Path) -> bool:
    """Whether a directory has all files of an archive with their sizes."""
    if not target.is_dir():
        return False
    try:
        with zipfile.ZipFile(file) as content:
            return all(
                (target / info.filename).stat().st_size == info.file_size
                for info in content.infolist()
                if not info.is_dir()
            )
    except (zipfile.BadZipFile, OSError):
        return False
