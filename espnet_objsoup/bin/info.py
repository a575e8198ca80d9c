# SPDX-License-Identifier: Apache-2.0
"""What a model is: objectives, soup, languages, scores, licence, versions, size."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, print_error
from espnet_objsoup.zoo.description import as_text, describe
from espnet_objsoup.zoo.pretrained import find_model


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser("info", "Say what a model is.")
    parser.add_argument(
        "model", help="experiment (exp/T), packed zip, directory of an unpacked one, or user/name"
    )
    parser.add_argument("--json", action="store_true", help="as JSON; null is not recorded")
    parser.add_argument("--cache_dir", type=Path, help="where models are unpacked to")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)
    try:
        values = describe(find_model(args.model, args.cache_dir), args.model)
    except (ValueError, OSError) as err:
        print_error(err)
        return 1
    # JSON in ASCII: a stranger's words must not move the cursor.
    text = json.dumps(values, indent=2) if args.json else as_text(values)
    with suppress(BrokenPipeError):  # `| head` has seen enough
        print(text, flush=True)
        return 0
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    main_guard(main)
