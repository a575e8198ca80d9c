# SPDX-License-Identifier: Apache-2.0
"""Keep the utterances of a data directory that all its files have."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, run_command
from espnet_objsoup.bin.data_options import warn_of_other_files
from espnet_objsoup.data import datadir


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser(
        "fix_data_dir", "Sort a data directory and keep the utterances that all its files have."
    )
    parser.add_argument("source", type=Path, help="data directory")
    parser.add_argument("target", type=Path, help="may be the same directory")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        warn_of_other_files([args.source])
        data, dropped = datadir.fix(args.source)
        for name, n in dropped.items():
            print(f"warning: {args.source / name}: {n} lines dropped", file=sys.stderr)
        datadir.write(data, args.target)
        n = dropped.get("utt2spk", 0)
        return f"{args.target}: kept {len(data.utterances)} utterances, dropped {n}"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
