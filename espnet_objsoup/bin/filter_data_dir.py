# SPDX-License-Identifier: Apache-2.0
"""Stage 4: drop utterances that cannot be trained on."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, positive_int, run_command
from espnet_objsoup.bin.data_options import true_or_false, warn_of_other_files
from espnet_objsoup.data import datadir
from espnet_objsoup.data.selection import filter_utterances


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser(
        "filter_data_dir", "Drop utterances that are too short, too long or have no label."
    )
    parser.add_argument("source", type=Path, help="dump directory (stage 3)")
    parser.add_argument("target", type=Path, help="dump directory to write")
    parser.add_argument("--min_wav_duration", type=float, default=0.1, help="seconds")
    parser.add_argument("--max_wav_duration", type=float, default=20.0, help="seconds")
    parser.add_argument("--fs", type=positive_int, default=16000, help="sample rate in Hz")
    parser.add_argument(
        "--keep_unlabelled",
        type=true_or_false,
        default=False,
        metavar="true|false",
        help="keep utterances without transcript and translation, for a self-supervised objective",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        warn_of_other_files([args.source])
        data, report = filter_utterances(
            datadir.read(args.source),
            args.min_wav_duration,
            args.max_wav_duration,
            args.fs,
            args.source,
            args.keep_unlabelled,
        )
        datadir.write(data, args.target)
        return f"{args.target}: {report}"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
