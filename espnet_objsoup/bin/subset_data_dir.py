# SPDX-License-Identifier: Apache-2.0
"""Part of a data directory, as Kaldi's utils/subset_data_dir.sh."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import (
    main_guard,
    make_parser,
    positive_int,
    run_command,
    string_list,
)
from espnet_objsoup.bin.data_options import add_allow_pipes, warn_of_other_files
from espnet_objsoup.data import datadir
from espnet_objsoup.data.languages import parse_langs
from espnet_objsoup.data.selection import CHOICES, GROUPS, Selection, select


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser(
        "subset_data_dir",
        "Write the utterances that meet all conditions; with --number so many of them.",
        epilog="Example: 100 utterances of each language: --number 100 --per lang",
    )
    parser.add_argument("source", type=Path, help="data directory")
    parser.add_argument("target", type=Path, help="data directory to write")
    parser.add_argument("--number", type=positive_int, help="how many; default: all")
    parser.add_argument("--choose", choices=CHOICES, default="random", help="which of them")
    parser.add_argument("--per", choices=sorted(GROUPS), help="at most --number of each of these")
    parser.add_argument("--seed", type=int, default=0, help="of the random choice")
    parser.add_argument("--langs", type=string_list, help='spoken languages: "en fr"')
    parser.add_argument("--spk_list", type=Path, help="file of speakers, the first word of a line")
    parser.add_argument("--utt_list", type=Path, help="file of ids, the first word of a line")
    add_allow_pipes(parser)
    return parser


def read_list(path: Path | None, known: frozenset[str]) -> frozenset[str] | None:
    """First words of a file's lines; says how many of them the directory does not have.

    Raises:
        ValueError: if there is none, or no such file.
    """
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        reason = getattr(err, "strerror", None) or err
        raise ValueError(
            f"{path}: expected a UTF-8 file with an id per line, found: {reason}; correct "
            "--utt_list or --spk_list"
        ) from err
    words = frozenset(line.split()[0] for line in lines if line.strip())
    if not words:
        raise ValueError(f"{path}: expected an id per line, found none; write some")
    unknown = words - known
    if unknown:
        print(
            f"warning: {path}: {len(unknown)} of {len(words)} are not in the data directory (such "
            f"as {min(unknown)})",
            file=sys.stderr,
        )
    return words


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = get_parser()
    args = parser.parse_args(argv)
    if args.per is not None and args.number is None:
        parser.error(f"--per {args.per} needs --number")
    if all(x is None for x in (args.number, args.langs, args.spk_list, args.utt_list)):
        parser.error("expected at least one of --number, --langs, --spk_list, --utt_list")

    if args.source.resolve() == args.target.resolve():
        parser.error(
            f"expected another directory to write than the one that is read, {args.source}"
        )

    def work() -> str:
        warn_of_other_files([args.source])
        data = datadir.read(args.source, args.allow_pipes)
        selection = Selection(
            number=args.number,
            choose=args.choose,
            per=args.per,
            seed=args.seed,
            langs=None if args.langs is None else parse_langs(args.langs),
            speakers=read_list(args.spk_list, frozenset(data.columns["utt2spk"].values())),
            utterances=read_list(args.utt_list, frozenset(data.columns["utt2spk"])),
        )
        subset = select(data, selection, args.source)
        datadir.write(subset, args.target)
        kept, total = len(subset.columns["utt2spk"]), len(data.columns["utt2spk"])
        return f"{args.target}: {kept} of {total} utterances"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
