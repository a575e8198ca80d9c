# SPDX-License-Identifier: Apache-2.0
"""Nothing of the machine that packed a model, and no secret, goes to its readers."""

import re
from collections.abc import Mapping
from pathlib import Path

from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.writer import Content

_TOKEN = re.compile(rb"\b(hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16})\b")
_ABSOLUTE = re.compile(r"(?<![\w./:-])(?:~|/[\w.@+~-]+)(?:/[\w.@+~-]+)+")
_TEXT = (".yaml", ".md", ".json")


def without_directories(line: str) -> str:
    """A command line whose absolute paths are cut to their last part."""
    return _ABSOLUTE.sub(lambda found: f".../{found[0].rsplit('/', 1)[1]}", line)


def public_results(results: str) -> str:
    """RESULTS.md with the command that made it, but not where it was given."""
    lines = results.split("\n")
    return "\n".join(
        without_directories(line) if line.startswith("- command:") else line for line in lines
    )


def check_public(contents: Mapping[str, Content], experiment: Path) -> None:
    """Refuse to publish a secret, or a directory of this machine.

    Raises:
        ModelError: naming the file; a secret itself is not shown.
    """
    recipe = experiment.absolute().parent.parent
    places = [str(path).encode() + b"/" for path in (Path.home(), recipe) if len(path.parts) > 1]
    for name, content in contents.items():
        if not name.endswith(_TEXT):
            continue
        text = content if isinstance(content, bytes) else content.read_bytes()
        if _TOKEN.search(text):
            raise ModelError(
                f"{name}: expected nothing secret, found what looks like an access token; remove "
                "it from the file that it comes from, and withdraw the token"
            )
        for place in places:
            if place in text:
                line = next(line for line in text.split(b"\n") if place in line)
                raise ModelError(
                    f"{name}: expected no path of this machine, found "
                    f"{line.decode(errors='replace').strip()[:160]!r}; write it relative to the "
                    "recipe's directory"
                )
