# SPDX-License-Identifier: Apache-2.0
"""Files of `<id> <value>` lines, which data directories consist of."""

from collections.abc import Mapping
from pathlib import Path

from espnet_objsoup.data.files import replacing

NO_VALUE = "<na>"


class DataDirError(ValueError):
    """A data directory is not usable; the message lists everything that is wrong with it."""


def read_table(path: Path, check_order: bool = False) -> dict[str, str]:
    """Read `key value` lines, separated by a space or tab.

    Args:
        path: the file.
        check_order: whether keys have to be in bytewise order.

    Raises:
        DataDirError: listing every line that is malformed or repeats a key, and the first one that
            is out of order.
    """
    table: dict[str, str] = {}
    problems = []
    previous = ""
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line:
            continue
        key, value = _key_and_value(line)
        if not key or not value:
            problems.append(
                f"{path}:{number}: expected `<id> <value>`, found {line!r}; write {NO_VALUE} where "
                "there is no value"
            )
        elif key in table:
            problems.append(f"{path}:{number}: {key} occurs twice; remove one of the lines")
        elif check_order and key < previous:
            # Code points and the bytes of their UTF-8 have the same order.
            problems.append(
                f"{path}:{number}: expected ids in bytewise order (LC_ALL=C sort), found {key} "
                f"after {previous}; fix_data_dir sorts"
            )
            check_order = False
        table[key] = value
        previous = key
    if problems:
        raise DataDirError(listing(problems))
    return table


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as err:
        number = content.count(b"\n", 0, err.start) + 1
        raise DataDirError(
            f"{path}:{number}: expected UTF-8, found byte {content[err.start]:#x}; convert the "
            "file (iconv -t UTF-8)"
        ) from err


def _key_and_value(line: str) -> tuple[str, str]:
    key, _, value = line.partition(" ")
    if "\t" in key:
        key, _, value = line.partition("\t")
    return key, value.strip(" \t")


def write_table(table: Mapping[str, str], path: Path) -> None:
    """Write `key value` lines in bytewise order of the keys, whole or not at all.

    Raises:
        OSError: if writing fails, naming the file.
    """
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        # Code points and the bytes of their UTF-8 have the same order.
        file.writelines(f"{key} {table[key]}\n" for key in sorted(table))


def listing(problems: list[str], limit: int = 50) -> str:
    """Problems a line each; the number of those that are left out."""
    shown = problems[:limit]
    more = len(problems) - len(shown)
    return "\n".join(shown) + (f"\n(and {more} more)" if more > 0 else "")
