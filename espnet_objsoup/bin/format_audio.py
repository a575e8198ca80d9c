# SPDX-License-Identifier: Apache-2.0
"""Stage 3: audio of a data directory in one format."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, positive_int, run_command
from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio import AUDIO_FORMATS, AudioFormat, format_audio


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser(
        "format_audio",
        "Write the audio of a data directory as mono files of one rate and format; apply segments "
        "and speed factors.",
    )
    parser.add_argument("source", type=Path, help="data directory")
    parser.add_argument("target", type=Path, help="dump directory; audio goes to its audio/")
    parser.add_argument("--fs", type=positive_int, default=16000, help="sample rate in Hz")
    parser.add_argument("--audio_format", choices=AUDIO_FORMATS, default="flac")
    parser.add_argument("--channel", type=int, help="channel of recordings with several, from 0")
    parser.add_argument("--nj", type=positive_int, default=4, help="processes")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        audio_format = AudioFormat(args.fs, args.audio_format, args.channel)
        data = format_audio(datadir.read(args.source), args.target, audio_format, args.nj)
        datadir.write(data, args.target)
        hours = sum(map(int, data.columns["utt2num_samples"].values())) / args.fs / 3600
        return f"{args.target}: {len(data.utterances)} utterances, {hours:.2f} h"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
