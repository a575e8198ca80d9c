# SPDX-License-Identifier: Apache-2.0
"""Whether a file ends where its header says; libsndfile takes one that is cut off for whole."""

from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

# Programs that write to a pipe cannot know the length and put one of these.
_STREAMED = {0, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0x7FFFF000, 0xFFFFFFFF, 0xFFFFFFFF - 36}
_UNKNOWN_64 = 0xFFFFFFFFFFFFFFFF
# Some programs count the byte that makes the last chunk even, and leave it out.
_PADDING = 1
# Sony Wave64 names chunks by 16 bytes; those of the file and of its samples begin like this.
_W64_FILE = b"riff\x2e\x91\xcf\x11"
_OGG_PAGE = b"OggS\x00"
_OGG_HEADER = 27
_OGG_LARGEST_PAGE = _OGG_HEADER + 255 + 255 * 255
_OGG_END_OF_STREAM = 4


def what_is_missing(file: BinaryIO, size: int) -> str:
    """What a header promises and the file lacks, as "expected ..., found ..."; else nothing.

    Known are WAV, RF64, Wave64, AIFF, AU, CAF, SPHERE and Ogg. Of others nothing is said.

    Args:
        file: open for reading, at its beginning.
        size: its size in bytes.
    """
    head = file.read(1024)
    if head.startswith(b"OggS"):
        return _missing_of_ogg(file, size)
    end = max((size, *(end_of(file, head, size) for end_of in _ENDS)))
    return f"expected {end} bytes as the header says, found {size}" if end > size else ""


def _wav_end(file: BinaryIO, head: bytes, size: int) -> int:
    if head[8:12] != b"WAVE" or head[:4] not in (b"RIFF", b"RIFX"):
        return 0
    order = "little" if head[:4] == b"RIFF" else "big"
    position = 12
    while position < size:
        file.seek(position)
        chunk = file.read(8)
        length = int.from_bytes(chunk[4:], order)
        if chunk[:4] == b"data":
            return 0 if length in _STREAMED else position + 8 + length
        position += 8 + length + length % 2
    return 0


def _rf64_end(file: BinaryIO, head: bytes, size: int) -> int:
    if head[:4] not in (b"RF64", b"BW64") or head[8:16] != b"WAVEds64":
        return 0
    length = int.from_bytes(head[20:28], "little")
    return 0 if length in (0, _UNKNOWN_64) else 8 + length - _PADDING


def _w64_end(file: BinaryIO, head: bytes, size: int) -> int:
    length = int.from_bytes(head[16:24], "little")
    return length if head.startswith(_W64_FILE) and length != _UNKNOWN_64 else 0


def _aiff_end(file: BinaryIO, head: bytes, size: int) -> int:
    length = int.from_bytes(head[4:8], "big")
    if head[:4] != b"FORM" or head[8:12] not in (b"AIFF", b"AIFC") or length in _STREAMED:
        return 0
    return 8 + length - _PADDING


def _au_end(file: BinaryIO, head: bytes, size: int) -> int:
    offset, length = (int.from_bytes(head[i : i + 4], "big") for i in (4, 8))
    return 0 if head[:4] != b".snd" or length in _STREAMED else offset + length


def _caf_end(file: BinaryIO, head: bytes, size: int) -> int:
    if head[:4] != b"caff":
        return 0
    position = 8
    while position < size:
        file.seek(position)
        chunk = file.read(12)
        length = int.from_bytes(chunk[4:], "big")
        if length == _UNKNOWN_64:
            return 0
        position += 12 + length
        if chunk[:4] == b"data":
            return position
    return 0


def _sphere_end(file: BinaryIO, head: bytes, size: int) -> int:
    if not head.startswith(b"NIST_1A"):
        return 0
    with suppress(KeyError, ValueError):
        lines = head.decode("latin-1").splitlines()[2:]
        words = [line.split(maxsplit=2) for line in lines]
        fields = {word[0]: word[2] for word in words if len(word) == 3}
        if "shorten" not in fields.get("sample_coding", ""):
            samples = int(fields["sample_count"]) * int(fields["channel_count"])
            return int(head.split()[1]) + samples * int(fields["sample_n_bytes"])
    return 0


# Each gives the size in bytes that the header promises; 0 for other formats and unknown lengths.
_ENDS: tuple[Callable[[BinaryIO, bytes, int], int], ...] = (
    _wav_end,
    _rf64_end,
    _w64_end,
    _aiff_end,
    _au_end,
    _caf_end,
    _sphere_end,
)


def _missing_of_ogg(file: BinaryIO, size: int) -> str:
    """Ogg knows no length, but its last page is marked."""
    file.seek(max(0, size - 2 * _OGG_LARGEST_PAGE))
    tail = file.read()
    at = tail.rfind(_OGG_PAGE)
    page = tail[at:]
    # The table of a page's segments: their lengths, a byte each.
    segments = page[_OGG_HEADER - 1] if len(page) >= _OGG_HEADER else 0
    length = _OGG_HEADER + segments + sum(page[_OGG_HEADER : _OGG_HEADER + segments])
    if at < 0 or len(page) < length:
        return "expected a whole page at the end of an Ogg file, found part of one"
    if not page[5] & _OGG_END_OF_STREAM:
        return "expected the last page of an Ogg stream, found another one at the end"
    return ""
