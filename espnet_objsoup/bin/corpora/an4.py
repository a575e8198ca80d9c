# SPDX-License-Identifier: Apache-2.0
"""`prepare_corpus an4`."""

import argparse
from pathlib import Path

from espnet_objsoup.bin.corpora.common import add_out, write_splits
from espnet_objsoup.data.corpora import an4

HELP = "the AN4 utterances that ESPnet ships"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this corpus."""
    parser.add_argument("--archive", type=Path, required=True, help="downloads.tar.gz")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="unpacked here")
    add_out(parser)


def run(args: argparse.Namespace) -> str:
    """Prepare the corpus; returns what was made, in words."""
    splits = an4.prepare(an4.unpack(args.archive, args.downloads))
    # AN4 has no development set; with seven utterances its training data has to stand in.
    return write_splits({**splits, "dev": splits["train"]}, args.out)
