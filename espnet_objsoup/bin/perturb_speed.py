# SPDX-License-Identifier: Apache-2.0
"""Stage 2: speed-perturbed copies of a data directory."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, run_command, string_list
from espnet_objsoup.bin.data_options import add_allow_pipes, warn_of_other_files
from espnet_objsoup.data import datadir
from espnet_objsoup.data.selection import perturb_speed


def factor_list(value: str) -> list[float]:
    """Type of `--factors "0.9 1.0 1.1"`.

    Raises:
        argparse.ArgumentTypeError: for anything but numbers.
    """
    try:
        return [float(factor) for factor in string_list(value)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers, found {value!r}") from None


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser(
        "perturb_speed",
        "Copy every utterance once per factor; stage 3 makes the audio. Ids get Kaldi's prefixes.",
    )
    parser.add_argument("source", type=Path, help="data directory")
    parser.add_argument("target", type=Path, help="data directory to write")
    parser.add_argument("--factors", type=factor_list, default="0.9 1.0 1.1", help="of speed")
    add_allow_pipes(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        warn_of_other_files([args.source])
        data = perturb_speed(datadir.read(args.source, args.allow_pipes), args.factors)
        datadir.write(data, args.target)
        speeds = " ".join(f"{factor:g}" for factor in args.factors)
        return f"{args.target}: {len(data.utterances)} utterances at speeds {speeds}"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
