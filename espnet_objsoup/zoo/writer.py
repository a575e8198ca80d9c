# SPDX-License-Identifier: Apache-2.0
"""A zip archive whose bytes depend on nothing but the files in it and one time."""

import os
import shutil
import stat
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from espnet_objsoup.data.files import replacing
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.meta import FILE_NAME

VARIABLE = "SOURCE_DATE_EPOCH"
# Times that a zip archive can hold.
_FIRST, _LAST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2107, 12, 31, 23, 59, 58, tzinfo=UTC)

Content = bytes | Path


def archive_time(weights: Path) -> int:
    """Seconds since 1970 that all of an archive is dated: `$SOURCE_DATE_EPOCH`, else the weights'.

    Raises:
        ModelError: if the variable holds anything but whole seconds.
    """
    given = os.environ.get(VARIABLE, "")
    if not given:
        return int(weights.stat().st_mtime)
    if not given.isascii() or not given.isdigit():
        raise ModelError(f"{VARIABLE}: expected seconds since 1970, found {given!r}")
    return int(given)


def write_archive(target: Path, contents: Mapping[str, Content], timestamp: int) -> None:
    """Write an archive, whole or not at all.

    `meta.yaml` comes first, as ESPnet has it, the others by name. Files are stored as they are:
    weights hardly shrink, and what a compressor makes depends on its version.

    Args:
        target: the archive.
        contents: name in the archive -> content, or the file that has it.
        timestamp: of all entries.

    Raises:
        OSError: if writing fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    names = sorted(contents, key=lambda name: (name != FILE_NAME, name.encode()))
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in names:
            _add(archive, name, contents[name], timestamp)


def _add(archive: zipfile.ZipFile, name: str, content: Content, timestamp: int) -> None:
    info = zipfile.ZipInfo(name, _date_time(timestamp))
    info.create_system = 3  # Unix, whatever wrote it
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.compress_type = zipfile.ZIP_STORED
    if isinstance(content, bytes):
        archive.writestr(info, content)
        return
    # Known beforehand, so that the entry's form does not depend on how it is written.
    info.file_size = content.stat().st_size
    with open(content, "rb") as source, archive.open(info, "w") as entry:
        shutil.copyfileobj(source, entry, 1 << 20)


def _date_time(timestamp: int) -> tuple[int, int, int, int, int, int]:
    seconds = min(max(timestamp, _FIRST.timestamp()), _LAST.timestamp())
    return datetime.fromtimestamp(seconds, UTC).timetuple()[:6]
