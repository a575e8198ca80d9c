# SPDX-License-Identifier: Apache-2.0
"""Check data directories."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, positive_int, run_command
from espnet_objsoup.bin.data_options import add_allow_pipes, print_counts, true_or_false
from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio import check_audio


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser("validate_data_dir", "Check data directories; lists all problems.")
    parser.add_argument("directories", type=Path, nargs="+", help="data directories")
    add_allow_pipes(parser)
    parser.add_argument(
        "--check_audio",
        type=true_or_false,
        default=False,
        metavar="true|false",
        help="decode all audio too; format_audio does this anyway",
    )
    parser.add_argument("--nj", type=positive_int, default=4, help="processes of --check_audio")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        problems, n = [], 0
        for directory in args.directories:
            try:
                data = datadir.read(directory, args.allow_pipes)
            except datadir.DataDirError as err:
                problems.append(str(err))
                continue
            n += len(data.columns["utt2spk"])
            print_counts(directory, datadir.objective_counts(data))
            if args.check_audio:
                problems += check_audio(data, args.nj, args.allow_pipes)
        if problems:
            raise datadir.DataDirError(datadir.listing(problems))
        return f"{len(args.directories)} data directories, {n} utterances: valid"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
