# SPDX-License-Identifier: Apache-2.0
"""Which names an archive may have, so that it unpacks alike and harmlessly on every system."""

import stat
import unicodedata
import zipfile
from collections.abc import Sequence

from espnet_objsoup.zoo.errors import ModelError

_MAX_NAME = 1000
_FORBIDDEN = set('\\:*?"<>|')
_DEVICES = {
    "con", "prn", "aux", "nul",
    *(f"{name}{number}" for name in ("com", "lpt") for number in range(1, 10)),
}  # fmt: skip


def check_names(entries: Sequence[zipfile.ZipInfo], archive: str) -> None:
    """Refuse an archive with a name that leaves its directory or that two files would share.

    Raises:
        ModelError: naming the entry.
    """
    seen: dict[str, str] = {}
    for info in entries:
        reason = _fault(info)
        if reason:
            raise ModelError(
                f"{archive}: entry {info.orig_filename[:200]!r}: {reason}; this is no model that "
                "espnet_objsoup or ESPnet has packed, do not use it"
            )
        key = _folded(info.filename.rstrip("/"))
        if key in seen:
            raise ModelError(
                f"{archive}: expected every name once, found {seen[key]!r} and {info.filename!r}, "
                "which are one file on some systems; pack the model again"
            )
        seen[key] = info.filename
    for key, name in seen.items():
        parts = key.split("/")
        for end in range(1, len(parts)):
            parent = "/".join(parts[:end])
            if parent in seen and not seen[parent].endswith("/"):
                raise ModelError(
                    f"{archive}: expected files and directories, found {seen[parent]!r}, a file "
                    f"with {name!r} in it; pack the model again"
                )


def _folded(name: str) -> str:
    """The name as a system sees it that ignores case and forms of Unicode."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _fault(info: zipfile.ZipInfo) -> str:
    """What is wrong with an entry, empty if nothing."""
    name = info.orig_filename  # zipfile cuts the other one at a NUL
    parts = name.rstrip("/").split("/")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not name or name.startswith("/"):
        return "expected a relative name, found an absolute one"
    if ".." in parts:
        return "expected a name within the model's directory, found '..'"
    if any(unicodedata.category(c) == "Cc" for c in name) or _FORBIDDEN & set(name):
        return 'expected a name without control characters and \\ : * ? " < > |'
    if len(name) > _MAX_NAME or "" in parts or "." in parts:
        return f"expected a plain name of at most {_MAX_NAME} characters"
    if any(part != part.rstrip(" .") or part.partition(".")[0].casefold() in _DEVICES
           for part in parts):  # fmt: skip
        return "expected a name that every system can have"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "expected a file or a directory, found a link or a device"
    if (kind == stat.S_IFDIR or name.endswith("/")) and info.file_size:
        return "expected an empty directory entry, found content"
    if kind == stat.S_IFDIR and not name.endswith("/"):
        return "expected a file or a directory, found both"
    return ""
