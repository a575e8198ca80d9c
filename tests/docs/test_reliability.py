# SPDX-License-Identifier: Apache-2.0
"""The table of faults names tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CELL = re.compile(r"(?<!\\)\|")
_COLUMNS = 5


def rows() -> list[list[str]]:
    """Cells of the table of faults, without its head."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    table = text.split("| fault |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in _CELL.split(line)[1:-1]] for line in table]


def test_every_fault_has_a_test_that_exists() -> None:
    """A name that begins with `::` is in the file that was named last."""
    missing, content = [], ""
    for row in rows():
        assert len(row) == _COLUMNS, row
        names = re.findall(r"`([^`]+)`", row[-1])
        assert names, row
        for name in names:
            path, _, test = name.partition("::")
            if path:
                content = (ROOT / "tests" / path).read_text(encoding="utf-8")
            if test and f"def {test}(" not in content:
                missing.append(name)
    assert not missing


def test_the_table_is_long_enough() -> None:
    faults = [row[0] for row in rows()]
    assert len(set(faults)) == len(faults) >= 60
