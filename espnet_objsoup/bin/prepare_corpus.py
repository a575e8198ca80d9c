# SPDX-License-Identifier: Apache-2.0
"""Stage 1: from a corpus' own layout to data directories."""

import argparse
from collections.abc import Sequence

from espnet_objsoup.bin.cli import main_guard, make_parser, run_command
from espnet_objsoup.bin.corpora import aishell, an4, covost2, librispeech

# A corpus is added here by its module in bin/corpora/.
CORPORA = {
    "covost2": covost2,
    "librispeech": librispeech,
    "aishell": aishell,
    "an4": an4,
}


def get_parser() -> argparse.ArgumentParser:
    """Parser with a subcommand per corpus."""
    parser = make_parser("prepare_corpus", "Make data directories from a corpus.")
    commands = parser.add_subparsers(dest="corpus", required=True)
    for name, module in CORPORA.items():
        module.add_arguments(commands.add_parser(name, help=module.HELP))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)
    return run_command(lambda: CORPORA[args.corpus].run(args))


if __name__ == "__main__":
    main_guard(main)
