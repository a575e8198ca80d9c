# SPDX-License-Identifier: Apache-2.0
"""Tables of Common Voice and CoVoST 2, row by row.

Columns are found by the header's names. As in the reader of CoVoST 2's authors nothing is quoted,
and a backslash escapes the next character.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from espnet_objsoup.data.tables import DataDirError

_BOM = b"\xef\xbb\xbf"
# A field that a spreadsheet or pandas has quoted: quotes inside are doubled, and there are some.
_QUOTED = re.compile(r'"((?:[^"]|"")*"")(?:[^"]|"")*"')
csv.field_size_limit(1_000_000)


def read_rows(
    path: Path, columns: Sequence[str], repaired: Counter[str], dropped: Counter[str]
) -> Iterator[tuple[int, list[str]]]:
    """Rows of a table.

    Args:
        path: the file.
        columns: names of the columns that are wanted; others are not looked at.
        repaired, dropped: counts of what was mended and of rows that were left out, by kind.

    Yields:
        Line number, and the values in the order of `columns`.

    Raises:
        DataDirError: if the file or a column is missing, if there is no row, if the last row is cut
            off, or if the file is not UTF-8 text in lines.
    """
    name = f"{path.parent.name}/{path.name}"
    lines = _Lines(path)
    reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\")
    try:
        header = next(reader, [])
        places = _places(path, header, columns)
        found = False
        for row in reader:
            if len(row) < len(header):
                if not row:
                    continue
                if lines.cut_off:
                    raise DataDirError(
                        f"{path}:{reader.line_num}: expected {len(header)} fields, found "
                        f"{len(row)} and the end of the file: it is cut off; get it again"
                    )
                dropped[f"rows of {name} with fields missing"] += 1
            elif len(row) > len(header):
                dropped[f"rows of {name} with a tab too many"] += 1
            elif row == header:
                repaired[f"headers in the middle of {name}"] += 1
            else:
                found = True
                values = [row[place] for place in places]
                for i, value in enumerate(values):
                    if value[:1] == '"' and _QUOTED.fullmatch(value):
                        values[i] = value[1:-1].replace('""', '"')
                        repaired[f"fields of {name} that were quoted"] += 1
                yield reader.line_num, values
    except csv.Error as err:
        raise DataDirError(
            f"{path}:{reader.line_num}: expected fields separated by tabs in lines that end in a "
            f"line feed, found something else ({err}); get the file again"
        ) from err
    if not found:
        raise DataDirError(f"{path}: expected rows below the header, found none; get it again")
    if lines.with_bom:
        repaired[f"byte order mark of {name}"] += 1
    if lines.with_cr:
        repaired[f"line ends of Windows in {name}"] += lines.with_cr


def _places(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    missing = [name for name in columns if name not in header]
    if not missing:
        return [header.index(name) for name in columns]
    found = ", ".join(header) or "an empty file"
    hint = "get the file again"
    if any(name.strip('"') in columns and name not in columns for name in header):
        hint = "another program has quoted the fields, get the original"
    elif len(header) == 1 and any(mark in header[0] for mark in ",;"):
        hint = "fields have to be separated by tabs, get the original"
    raise DataDirError(
        f"{path}:1: expected the columns {', '.join(columns)}, found {found[:200]}; {hint}"
    )


class _Lines:
    """Lines of a UTF-8 file as text that ends in a line feed.

    Attributes:
        with_bom: whether the file begins with a byte order mark.
        with_cr: how many lines had a carriage return before their end.
        cut_off: whether the last line that was read has no end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.with_bom = False
        self.with_cr = 0
        self.cut_off = False

    def __iter__(self) -> Iterator[str]:
        try:
            file = open(self._path, "rb")  # noqa: SIM115  # closed below
        except FileNotFoundError as err:
            raise DataDirError(
                f"{self._path}: not found; expected the corpus unpacked there"
            ) from err
        with file:
            for number, line in enumerate(file, 1):
                if number == 1 and line.startswith(_BOM):
                    self.with_bom = True
                    line = line[len(_BOM) :]
                self.cut_off = not line.endswith(b"\n")
                if line.endswith(b"\r\n"):
                    self.with_cr += 1
                    line = line[:-2] + b"\n"
                yield self._text(number, line)

    def _text(self, number: int, line: bytes) -> str:
        if b"\0" in line:
            raise DataDirError(
                f"{self._path}:{number}: expected text, found a zero byte: the file is damaged, or "
                "in another encoding than UTF-8; get it again"
            )
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as err:
            raise DataDirError(
                f"{self._path}:{number}: expected UTF-8, found byte {line[err.start]:#x}; get the "
                "file again, or convert it (iconv -t UTF-8)"
            ) from err
