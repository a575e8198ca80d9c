# SPDX-License-Identifier: Apache-2.0
"""Stage 3: audio of a data directory in one format."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, positive_int, run_command, share
from espnet_objsoup.bin.data_options import add_allow_pipes, add_cluster, warn_of_other_files
from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio import (
    AUDIO_FORMATS,
    AudioFormat,
    format_audio,
    remove_unused_audio,
)
from espnet_objsoup.data.cluster_jobs import client_starter


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser(
        "format_audio",
        "Write the audio of a data directory as mono audio of one rate and format; apply segments "
        "and speed factors. Reads flac, wav, mp3, ogg, sph and more, at any rate.",
        epilog="An interrupted run goes on where it stopped. The audio of an earlier run stays "
        "until the new one is complete.",
    )
    parser.add_argument("source", type=Path, help="data directory")
    parser.add_argument("target", type=Path, help="dump directory; audio goes to its audio/")
    parser.add_argument("--fs", type=positive_int, default=16000, help="sample rate in Hz")
    parser.add_argument(
        "--audio_format", choices=AUDIO_FORMATS, default="flac", help="with .ark: archives"
    )
    parser.add_argument("--channel", type=int, help="channel of recordings with several, from 0")
    parser.add_argument(
        "--max_damaged",
        type=share,
        default=0.0,
        help="share of the utterances whose audio may be unusable, from 0 to 1: they are left out "
        "and listed",
    )
    parser.add_argument("--nj", type=positive_int, default=4, help="worker processes")
    add_cluster(parser)
    add_allow_pipes(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        audio_format = AudioFormat(args.fs, args.audio_format, args.channel)
        start_client = client_starter(args.cluster, args.target / "logs")
        warn_of_other_files([args.source])
        source = datadir.read(args.source, args.allow_pipes)
        data = format_audio(
            source,
            args.target,
            audio_format,
            args.nj,
            args.allow_pipes,
            start_client,
            args.max_damaged,
        )
        datadir.write(data, args.target)
        remove_unused_audio(args.target)
        hours = sum(map(int, data.columns["utt2num_samples"].values())) / args.fs / 3600
        n = len(data.columns["utt2num_samples"])
        return f"{args.target}: {n} utterances, {hours:.2f} h of {args.audio_format}"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
