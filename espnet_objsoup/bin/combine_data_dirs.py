# SPDX-License-Identifier: Apache-2.0
"""Put data directories together, as Kaldi's utils/combine_data.sh."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, run_command
from espnet_objsoup.bin.data_options import add_allow_pipes, warn_of_other_files
from espnet_objsoup.data import datadir


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser(
        "combine_data_dirs",
        "Put data directories together. Utterance ids have to be distinct; utt2num_samples is "
        "written if all have it.",
    )
    parser.add_argument("sources", type=Path, nargs="+", help="data directories")
    parser.add_argument("target", type=Path, help="data directory to write")
    add_allow_pipes(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        warn_of_other_files(args.sources)
        parts = [(source, datadir.read(source, args.allow_pipes)) for source in args.sources]
        data = datadir.combine(parts)
        lost = {name for _, part in parts for name in part.columns} - data.columns.keys()
        for name in sorted(lost):
            print(f"warning: {name} is not written: not all directories have it", file=sys.stderr)
        datadir.write(data, args.target)
        counts = " + ".join(str(len(part.columns["utt2spk"])) for _, part in parts)
        return f"{args.target}: {counts} = {len(data.columns['utt2spk'])} utterances"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
