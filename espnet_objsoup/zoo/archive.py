# SPDX-License-Identifier: Apache-2.0
"""Unpack a model from a stranger: nothing leaves the directory, nothing grows without bound."""

import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from humanfriendly import format_size

from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.meta import FILE_NAME, MODEL_FILE, Meta
from espnet_objsoup.zoo.names import check_names
from espnet_objsoup.zoo.pickles import SUFFIXES, check_weights
from espnet_objsoup.zoo.versions import check_versions

VARIABLE = "OBJSOUP_UNPACK_LIMITS"
_MAX_META_BYTES = 4 << 20
_CHUNK = 1 << 20
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        gb: all files together, in 10^9 bytes.
        entries: files and directories.
        ratio: unpacked size to that of the archive. Weights hardly shrink: a model is below 2.
    """

    gb: float = 20.0
    entries: float = 10_000
    ratio: float = 50.0

    @classmethod
    def of_environment(cls) -> "Limits":
        """The defaults, with those of `$OBJSOUP_UNPACK_LIMITS`, such as `gb=100,ratio=200`.

        Raises:
            ModelError: if the variable holds anything else.
        """
        values = {}
        known = [f.name for f in fields(cls)]
        for word in os.environ.get(VARIABLE, "").replace(",", " ").split():
            name, _, number = word.partition("=")
            try:
                values[name] = float(number)
            except ValueError:
                values[name] = -1.0
            if name not in known or not values[name] > 0:
                raise ModelError(
                    f"{VARIABLE}: expected numbers above 0 such as gb=100,entries=20000,ratio=200, "
                    f"found {word!r}"
                )
        return cls(**values)

    def excess(self, found: Mapping[str, tuple[float, str]], what: str) -> str:
        """What is beyond a limit, and how to raise it, in words; empty if nothing is.

        Args:
            found: limit -> value, and how it is said.
            what: that somebody may trust.
        """
        for limit, (value, text) in found.items():
            allowed = getattr(self, limit)
            if value > allowed:
                return (
                    f"expected {limit} of at most {allowed:g}, found {text}; if you trust {what}, "
                    f"raise the limit: {VARIABLE}={limit}={value * 1.1 + 1:.0f}"
                )
        return ""


def unpack(archive: Path, target: Path, limits: Limits | None = None) -> Meta:
    """Unpack a model into a new directory.

    Args:
        archive: zip of stage 14 or of ESPnet's tools.
        target: directory that does not exist or is empty. After an error it may hold a part.
        limits: of size; None: `Limits.of_environment()`.

    Raises:
        ModelError: if the archive is damaged, hostile, or made for other versions.
    """
    try:
        with open(archive, "rb") as file:
            return unpack_file(file, str(archive), target, limits)
    except OSError as err:
        raise ModelError(f"{err.filename or archive}: {err.strerror or err}") from err


def unpack_file(file: BinaryIO, name: str, target: Path, limits: Limits | None = None) -> Meta:
    """As `unpack`, of an open file.

    Args:
        file: the archive.
        name: of the archive, for messages.
        target, limits: as in `unpack`.
    """
    try:
        with zipfile.ZipFile(file) as content:
            entries = content.infolist()
            _check_sizes(entries, file, name, limits or Limits.of_environment())
            check_names(entries, name)
            meta = _read_meta(content, name)
            check_versions(meta, name)
            _check_pickles(entries, meta, name)
            for info in entries:
                _extract(content, info, target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as err:
        raise ModelError(
            f"{name}: expected a zip archive, found a damaged or foreign file ({err}); download or "
            "copy it again"
        ) from err
    check_weights(target / meta.files[MODEL_FILE])
    return meta


def check_nested(path: Path, limits: Limits | None = None) -> None:
    """Refuse a file of a model that is an archive itself (tokens, statistics) and grows too much.

    Raises:
        ModelError: as `unpack`.
    """
    if not path.is_file() or not zipfile.is_zipfile(path):
        return
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as content:
            _check_sizes(content.infolist(), file, str(path), limits or Limits.of_environment())
    except (zipfile.BadZipFile, NotImplementedError, OSError) as err:
        raise ModelError(f"{path}: expected a whole archive, found a damaged one ({err})") from err


def _check_sizes(
    entries: Sequence[zipfile.ZipInfo], file: BinaryIO, name: str, limits: Limits
) -> None:
    packed = os.fstat(file.fileno()).st_size
    unpacked = sum(info.file_size for info in entries)
    found = {
        "entries": (len(entries), f"{len(entries)} entries"),
        "gb": (unpacked / 1e9, f"{format_size(unpacked)} of files"),
        "ratio": (unpacked / max(packed, 1), f"{unpacked / max(packed, 1):.0f} times its size"),
    }
    excess = limits.excess(found, "the archive")
    if excess:
        raise ModelError(f"{name}: {excess}")
    for info in entries:
        if info.flag_bits & _ENCRYPTED:
            raise ModelError(f"{name}: expected no password, found one on {info.filename!r}")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelError(
                f"{name}: expected entries stored or deflated, found another compression of "
                f"{info.filename!r}; pack the model again"
            )


def _read_meta(content: zipfile.ZipFile, name: str) -> Meta:
    names = {info.filename: info for info in content.infolist()}
    if FILE_NAME not in names:
        raise ModelError(
            f"{name}: expected a packed model with {FILE_NAME}, found none among its "
            f"{len(names)} entries; pack the experiment (stage 14)"
        )
    if names[FILE_NAME].file_size > _MAX_META_BYTES:
        raise ModelError(
            f"{name}: {FILE_NAME}: expected at most {format_size(_MAX_META_BYTES)}, found "
            f"{format_size(names[FILE_NAME].file_size)}"
        )
    meta = Meta.parse(content.read(FILE_NAME), f"{name}: {FILE_NAME}")
    for key, value in {**meta.files, **meta.yaml_files}.items():
        if value not in names:
            raise ModelError(
                f"{name}: {FILE_NAME}: {key}: expected an entry of the archive, found {value!r}, "
                "which it lacks; pack the model again"
            )
    return meta


def _check_pickles(entries: Sequence[zipfile.ZipInfo], meta: Meta, name: str) -> None:
    """The weights are the only file that anything would unpickle."""
    for info in entries:
        suffix = PurePosixPath(info.filename).suffix.lower()
        if suffix in SUFFIXES and info.filename != meta.files[MODEL_FILE]:
            raise ModelError(
                f"{name}: expected one file of weights, {meta.files[MODEL_FILE]}, found another "
                f"that programs unpickle, {info.filename!r}; do not use it"
            )


def _extract(content: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    path = target / info.filename
    if info.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # "x": never through a link, never over another file. zipfile gives no more than an entry's head
    # announces, which is what was checked.
    with content.open(info) as source, open(path, "xb") as file:
        shutil.copyfileobj(source, file, _CHUNK)
