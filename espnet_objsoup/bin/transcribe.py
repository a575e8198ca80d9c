# SPDX-License-Identifier: Apache-2.0
"""Write down what is said in audio files: text, JSON lines or subtitles."""

import argparse
from collections.abc import Sequence

from espnet_objsoup.bin.cli import main_guard
from espnet_objsoup.transcription import arguments, command


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    return arguments.get_parser(
        "transcribe", "Recognise the speech of audio files with a trained model.", target=False
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command.main(get_parser(), "asr", argv)


if __name__ == "__main__":
    main_guard(main)
