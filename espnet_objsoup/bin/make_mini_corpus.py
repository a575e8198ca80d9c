# SPDX-License-Identifier: Apache-2.0
"""Make the synthetic mini corpus."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import (
    main_guard,
    make_parser,
    positive_int,
    run_command,
    string_list,
)
from espnet_objsoup.data.corpora.mini import LAYOUTS, SIZES, MiniCorpus
from espnet_objsoup.data.languages import parse_langs, parse_pairs


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser(
        "make_mini_corpus",
        "Make a synthetic corpus in the layout of real ones. What is there already is kept.",
    )
    parser.add_argument("--size", choices=SIZES, default="default")
    parser.add_argument("--langs", type=string_list, help="default: as the size says")
    parser.add_argument("--st_pairs", type=string_list, help="default: as the size says")
    parser.add_argument(
        "--layouts", type=string_list, default=["covost2"], help=f"some of {' '.join(LAYOUTS)}"
    )
    parser.add_argument("--out", type=Path, required=True, help="directory of the corpus")
    parser.add_argument("--nj", type=positive_int, default=os.cpu_count() or 1, help="processes")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        size = SIZES[args.size]
        pairs = parse_pairs(size.pairs if args.st_pairs is None else args.st_pairs)
        corpus = MiniCorpus(
            root=args.out,
            size=size,
            langs=tuple(parse_langs(size.langs if args.langs is None else args.langs)),
            pairs=tuple(pairs),
            layouts=tuple(args.layouts),
        )
        clips, hours = corpus.make(args.nj)
        return f"{args.out}: {clips} clips, {hours:.2f} h of speech"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
