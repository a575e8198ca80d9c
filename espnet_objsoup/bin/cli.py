# SPDX-License-Identifier: Apache-2.0
"""What all commands share: lists, errors, the last line."""

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from humanfriendly import format_timespan

# Of terminals, and those that turn the direction of writing.
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def string_list(value: str) -> list[str]:
    """Type of options such as `--langs "en fr,de"`."""
    return value.replace(",", " ").split()


def positive_int(value: str) -> int:
    """Type of options that count something.

    Raises:
        argparse.ArgumentTypeError: for anything but a whole number above zero.
    """
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, found {value!r}")
    return number


def share(value: str) -> float:
    """Type of options that are a part of something.

    Raises:
        argparse.ArgumentTypeError: for anything but a number from 0 to 1.
    """
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {value!r}")
    return number


def make_parser(command: str, description: str, **options: Any) -> argparse.ArgumentParser:
    """Parser of a command; shows defaults in its help.

    It calls itself as it was called: `objsoup <command>`, or `python -m espnet_objsoup.bin...`.
    """
    by_name = Path(sys.argv[0]).stem == "objsoup"
    return argparse.ArgumentParser(
        prog=f"objsoup {command}" if by_name else f"python -m espnet_objsoup.bin.{command}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
        **options,
    )


def printable(text: object) -> str:
    """Text whose control characters are written out: a stranger's words must not move the cursor.

    Line feeds stay, and what joins letters.
    """
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], str(text))


def print_error(err: Exception) -> None:
    """Print an error that the user can mend, in the form that all commands share."""
    print(f"error: {printable(err)}", file=sys.stderr, flush=True)


def run_command(work: Callable[[], str]) -> int:
    """Run a command's work and print its last line.

    Args:
        work: does everything; returns what was made, in words.

    Returns:
        Exit status: 0, or 1 after an error that the user can mend (ValueError, OSError,
        RuntimeError), which is printed without a traceback.
    """
    start = time.monotonic()
    try:
        made = work()
    except (ValueError, OSError, RuntimeError) as err:
        print_error(err)
        return 1
    print(f"{made} ({format_timespan(time.monotonic() - start)})", flush=True)
    return 0


def main_guard(main: Callable[[Sequence[str] | None], int]) -> None:
    """Exit with the status of `main`."""
    sys.exit(main(None))
