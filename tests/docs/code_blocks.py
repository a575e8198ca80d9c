# SPDX-License-Identifier: Apache-2.0
"""Blocks of code in the documentation."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "egs2").glob("*/README.md")),
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: that it stands on.
        line: of its fence, from 1.
        language: behind the fence.
        text: of the block.
    """

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """All blocks in some languages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, match[1], match[2]))
    return [block for block in found if block.language in languages]


@dataclass(frozen=True)
class Command:
    """A command line of a block.

    Attributes:
        block: that it stands in.
        words: without comments and assignments of the environment.
    """

    block: Block
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.block} {' '.join(self.words)}"

    @property
    def options(self) -> list[str]:
        """Names of its long options."""
        return [word for word in self.words if re.fullmatch(r"--\w+", word)]

    def value(self, option: str) -> str | None:
        """What follows an option, None if it is not there."""
        at = self.words.index(option) if option in self.words else -2
        return self.words[at + 1] if 0 <= at + 1 < len(self.words) else None


def commands() -> list[Command]:
    """All command lines of all `sh` blocks."""
    found = []
    for block in blocks("sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.match(r"[A-Za-z_]+=", words[0]):
                words.pop(0)
            if words:
                found.append(Command(block, tuple(words)))
    return found
