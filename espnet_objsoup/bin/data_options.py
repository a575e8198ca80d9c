# SPDX-License-Identifier: Apache-2.0
"""Options that several commands for data directories have."""

import argparse


def true_or_false(value: str) -> bool:
    """Type of options such as `--allow_pipes true`, which Kaldi and ESPnet spell out.

    Raises:
        argparse.ArgumentTypeError: for anything but `true` or `false`.
    """
    if value not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, found {value!r}")
    return value == "true"


def add_allow_pipes(parser: argparse.ArgumentParser) -> None:
    """Add `--allow_pipes`."""
    parser.add_argument(
        "--allow_pipes",
        type=true_or_false,
        default=False,
        metavar="true|false",
        help="run the commands of wav.scp (lines that end in |), with bash and your rights",
    )
