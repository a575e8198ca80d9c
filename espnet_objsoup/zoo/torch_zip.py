# SPDX-License-Identifier: Apache-2.0
"""The pickle in a file of torch.save, where torch itself finds it.

Readers of zip archives differ in what they forgive: what stands before an archive, a directory that
is not where the end record says, names that differ in case or end at a NUL, fields that replace
names. A file on which they could differ shows one pickle to a check and another to torch. So
nothing is forgiven here: only the layout that torch.save writes is read.

Source: PyTorch 2.14, `torch/serialization.py` (`_is_zipfile`, `_load`) and
`caffe2/serialize/inline_container.cc`; its miniz 3.0.2 (`mz_zip_reader_read_central_dir`,
`mz_zip_reader_locate_file`); the format is PKWARE's APPNOTE.TXT 6.3, sections 4.3.7 to 4.3.16.
"""

import os
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from espnet_objsoup.zoo.errors import ModelError

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_ZIP64_FIELD = 1
_DESCRIPTOR, _UTF8 = 0x8, 0x800  # flags of entries that torch.save sets
# After an entry's content, where its head could not yet say its size.
_MAX_DESCRIPTOR_BYTES = 24
# A pickle of weights lists tensors; more than this is something else.
_MAX_PICKLE_BYTES = 256 << 20
_MAX_DIRECTORY_BYTES = 256 << 20
_PICKLE = "data.pkl"
# All records that torch.save writes; `constants.pkl`, say, makes torch run a program.
_RECORD = re.compile(
    r"data\.pkl|data/\d{1,9}|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id"
)
_TOP = re.compile(r"[ -.0-\[\]-~]{1,255}")  # printable ASCII but / and \


class _ForeignError(Exception):
    """What is not as torch.save writes it."""


@dataclass(frozen=True)
class _Entry:
    """A record of the archive.

    Attributes:
        name: in the directory.
        begin: of its head, from the beginning of the file.
        size: of its content, stored as it is.
    """

    name: str
    begin: int
    size: int


def read_pickle(file: BinaryIO, name: str) -> bytes:
    """The pickle that `torch.load` would read.

    Args:
        file: of weights.
        name: of the file, for messages.

    Raises:
        ModelError: unless torch.save could have written the file.
    """
    try:
        return _read_pickle(file)
    except _ForeignError as err:
        raise ModelError(
            f"{name}: expected weights as torch.save writes them (a zip archive), found another "
            f"or a damaged file ({err}); copy it again, or pack the model again (stage 14)"
        ) from err


def _read_pickle(file: BinaryIO) -> bytes:
    if _read(file, 0, 4) != b"PK\x03\x04":  # torch takes anything else for its oldest format
        raise _ForeignError("it does not begin as an archive")
    begin, end, count = _directory(file)
    entries = _entries(_read(file, begin, end - begin), count)
    _check_records([entry.name for entry in entries])
    contents = _contents(file, entries, begin)
    chosen = next(entry for entry in entries if entry.name.partition("/")[2] == _PICKLE)
    if chosen.size > _MAX_PICKLE_BYTES:
        raise _ForeignError(f"a list of tensors of {chosen.size} bytes")
    return _read(file, contents[chosen.name], chosen.size)


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Begin and end of the directory, and how many entries it has."""
    size = file.seek(0, os.SEEK_END)
    record = _unpacked(_END, file, size - _END.size, b"PK\x05\x06", "no end record at its end")
    *disks, here, count, length, begin, comment = record[1:]
    end = size - _END.size
    if end >= _LOCATOR64.size + _END64.size:
        locator = _LOCATOR64.unpack(_read(file, end - _LOCATOR64.size, _LOCATOR64.size))
        if locator[0] == b"PK\x06\x07":
            end -= _LOCATOR64.size + _END64.size
            large = _END64.unpack(_read(file, end, _END64.size))
            if locator[1:] != (0, end, 1) or large[:2] != (b"PK\x06\x06", _END64.size - 12):
                raise _ForeignError("its 64-bit end record is not where it is said to be")
            short = (here, count, length, begin)
            *disks64, here, count, length, begin = large[4:]
            disks += disks64
            full = zip(short, large[6:], (_MAX16, _MAX16, _MAX32, _MAX32), strict=True)
            if any(value not in (whole, most) for value, whole, most in full):
                raise _ForeignError("its two end records differ")
    if any(disks) or here != count or comment:
        raise _ForeignError("an end record that torch.save does not write")
    if begin + length != end or not 0 < length <= _MAX_DIRECTORY_BYTES:
        raise _ForeignError("its directory is not where the end record says")
    return begin, end, count


def _entries(directory: bytes, count: int) -> list[_Entry]:
    found, at = [], 0
    while at < len(directory):
        if len(directory) - at < _CENTRAL.size:
            raise _ForeignError("a directory that is cut off")
        signature, *values = _CENTRAL.unpack_from(directory, at)
        flags, method = values[2:4]
        packed, size, name_size, extra_size, comment_size, disk = values[7:13]
        begin = values[15]
        at += _CENTRAL.size
        raw, extra = directory[at : at + name_size], directory[at + name_size :][:extra_size]
        at += name_size + extra_size
        if signature != b"PK\x01\x02" or comment_size or disk or at > len(directory):
            raise _ForeignError("an entry of its directory that torch.save does not write")
        if method or flags & ~(_DESCRIPTOR | _UTF8):
            raise _ForeignError("an entry that is compressed or encrypted")
        size, packed, begin = _large((size, packed, begin), extra)
        if packed != size:
            raise _ForeignError("an entry with two sizes")
        found.append(_Entry(raw.decode("latin-1"), begin, size))
    if len(found) != count:
        raise _ForeignError(f"{len(found)} entries, where the end record says {count}")
    return found


def _large(values: tuple[int, int, int], extra: bytes) -> tuple[int, ...]:
    """Sizes and place of an entry, in the order of its 64-bit field; no other field is known."""
    missing = sum(value == _MAX32 for value in values)
    if not missing and not extra:
        return values
    head = struct.pack("<2H", _ZIP64_FIELD, 8 * missing)
    if not missing or extra[:4] != head or len(extra) != 4 + 8 * missing:
        raise _ForeignError("a field of an entry that torch.save does not write")
    numbers = iter(struct.unpack(f"<{missing}Q", extra[4:]))
    return tuple(next(numbers) if value == _MAX32 else value for value in values)


def _check_records(names: list[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 1 or not _TOP.fullmatch(tops.pop()):
        raise _ForeignError("not one directory with a plain name")
    records = [name.partition("/")[2] for name in names]
    strange = [record for record in records if not _RECORD.fullmatch(record)]
    if strange:
        raise _ForeignError(f"{strange[0][:80]!r}, which torch.save does not write")
    if len(set(records)) != len(records) or _PICKLE not in records:  # `_RECORD` is lower case
        raise _ForeignError(f"not every record once, or no {_PICKLE}")


def _contents(file: BinaryIO, entries: list[_Entry], end: int) -> dict[str, int]:
    """Where the content of each entry begins; one follows the other from the file's beginning."""
    found, at, slack = {}, 0, 0
    for entry in sorted(entries, key=lambda entry: entry.begin):
        if not at <= entry.begin <= at + slack:
            raise _ForeignError("entries that overlap, or something between them")
        values = _unpacked(_LOCAL, file, entry.begin, b"PK\x03\x04", "an entry without a head")
        flags, method, name_size, extra_size = values[2], values[3], values[9], values[10]
        raw = _read(file, entry.begin + _LOCAL.size, name_size)
        if raw.decode("latin-1") != entry.name or method or flags & ~(_DESCRIPTOR | _UTF8):
            raise _ForeignError("an entry whose head differs from the directory")
        found[entry.name] = entry.begin + _LOCAL.size + name_size + extra_size
        at, slack = found[entry.name] + entry.size, _MAX_DESCRIPTOR_BYTES
    if not at <= end <= at + slack:
        raise _ForeignError("entries that overlap the directory, or something between them")
    return found


def _unpacked(
    kind: struct.Struct, file: BinaryIO, begin: int, signature: bytes, otherwise: str
) -> tuple:
    values = kind.unpack(_read(file, begin, kind.size))
    if values[0] != signature:
        raise _ForeignError(otherwise)
    return values


def _read(file: BinaryIO, begin: int, size: int) -> bytes:
    if begin < 0:
        raise _ForeignError("it is too short")
    file.seek(begin)
    content = file.read(size)
    if len(content) != size:
        raise _ForeignError("it is cut off")
    return content
