# SPDX-License-Identifier: Apache-2.0
"""Check data directories."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, run_command
from espnet_objsoup.data import datadir


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser("validate_data_dir", "Check data directories; lists all problems.")
    parser.add_argument("directories", type=Path, nargs="+")
    parser.add_argument("--allow_pipes", action="store_true", help="allow commands in wav.scp")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        problems, n = [], 0
        for directory in args.directories:
            try:
                n += len(datadir.read(directory, args.allow_pipes).utterances)
            except datadir.DataDirError as err:
                problems.append(str(err))
        if problems:
            raise datadir.DataDirError("\n".join(problems))
        return f"{len(args.directories)} data directories, {n} utterances: valid"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
