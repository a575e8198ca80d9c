# SPDX-License-Identifier: Apache-2.0
"""The console command: `objsoup COMMAND ...` is `python -m espnet_objsoup.bin.COMMAND ...`.

Nothing but the version is imported before a command is chosen, so that --version and --help are
immediate.
"""

import ast
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from espnet_objsoup import __version__

FOR_USERS = ("transcribe", "translate", "demo", "info")


def commands() -> dict[str, str]:
    """Names of all commands (modules with a `main`) and the first line of their documentation."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name for node in module.body if isinstance(node, ast.FunctionDef)}
        if "main" in functions and path.stem != "objsoup":
            found[path.stem] = (ast.get_docstring(module) or "").partition("\n")[0]
    return found


def usage() -> str:
    """Text of --help."""
    lines = {name: f"  {name:<20} {meaning}" for name, meaning in commands().items()}
    return "\n".join(
        [
            "Usage: objsoup COMMAND [--option value] ...",
            "       objsoup --version",
            "",
            "Use a model (objsoup COMMAND --help shows the options of each):",
            *[lines.pop(name) for name in FOR_USERS if name in lines],
            "",
            "Make one:",
            *lines.values(),
            "",
            "Recipes call them in order: see egs2/*/run.sh --help.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words in (["-h"], ["--help"]):
        print(usage())
        return 0
    if words == ["--version"]:
        print(f"objsoup {__version__}")
        return 0
    if not words:
        print(usage(), file=sys.stderr)
        return 2
    name = words[0].replace("-", "_")
    known = commands()
    if name not in known:
        close = get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]}?" if close else "see objsoup --help"
        print(f"error: expected a command, found {words[0]!r}; {hint}", file=sys.stderr)
        return 2
    # Commands name themselves in messages; those that start processes use their own module.
    return import_module(f"espnet_objsoup.bin.{name}").main(words[1:])


if __name__ == "__main__":
    sys.exit(main())
