# SPDX-License-Identifier: Apache-2.0
"""Translate what is said in audio files: text, JSON lines or subtitles."""

import argparse
from collections.abc import Sequence

from espnet_objsoup.bin.cli import main_guard
from espnet_objsoup.transcription import arguments


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    return arguments.get_parser(
        "translate", "Translate the speech of audio files with a trained model.", target=True
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = get_parser()
    args = parser.parse_intermixed_args(argv)  # `a.wav --lang fr b.wav`, too
    from espnet_objsoup.transcription import command

    return command.main(parser, args, "st")


if __name__ == "__main__":
    main_guard(main)
