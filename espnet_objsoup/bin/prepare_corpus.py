# SPDX-License-Identifier: Apache-2.0
"""Stage 1: from a corpus' own layout to data directories."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, run_command, string_list
from espnet_objsoup.bin.data_options import print_counts
from espnet_objsoup.data import datadir
from espnet_objsoup.data.corpora import an4, covost2
from espnet_objsoup.data.text import POLICIES


def get_parser() -> argparse.ArgumentParser:
    """Parser with a subcommand per corpus."""
    parser = make_parser("prepare_corpus", "Make data directories from a corpus.")
    commands = parser.add_subparsers(dest="corpus", required=True)
    sub = commands.add_parser("covost2", help="CoVoST 2 on Common Voice")
    sub.add_argument("--commonvoice", type=Path, required=True, help="folder per language")
    sub.add_argument("--covost2", type=Path, help="folder with covost_v2.<src>_<tgt>.tsv")
    sub.add_argument("--langs", type=string_list, required=True, help='recognition: "en fr de"')
    sub.add_argument("--st_pairs", type=string_list, default=[], help='translation: "fr-en"')
    sub.add_argument("--asr_text_policy", choices=POLICIES, default="lc.rm")
    sub.add_argument("--st_text_policy", choices=POLICIES, default="tc")
    sub.add_argument("--out", type=Path, default=Path("data"), help="parent of train, dev, test")
    sub = commands.add_parser("an4", help="the AN4 utterances that ESPnet ships")
    sub.add_argument("--archive", type=Path, required=True, help="downloads.tar.gz")
    sub.add_argument("--downloads", type=Path, default=Path("downloads"), help="unpacked here")
    sub.add_argument("--out", type=Path, default=Path("data"), help="parent of train, dev, test")
    return parser


def _covost2(args: argparse.Namespace) -> str:
    config = covost2.CoVoST2Config(
        commonvoice=args.commonvoice,
        covost2=args.covost2,
        langs=args.langs,
        pairs=covost2.parse_pairs(args.st_pairs),
        asr_policy=args.asr_text_policy,
        st_policy=args.st_text_policy,
    )
    splits, report = covost2.prepare(config)
    for line in report.lines():
        print(line, file=sys.stderr)
    return _write(splits, args.out)


def _an4(args: argparse.Namespace) -> str:
    splits = an4.prepare(an4.unpack(args.archive, args.downloads))
    # AN4 has no development set; with seven utterances its training data has to stand in.
    return _write({**splits, "dev": splits["train"]}, args.out)


def _write(splits: dict[str, datadir.DataDir], out: Path) -> str:
    for split, data in splits.items():
        datadir.write(data, out / split)
        print_counts(out / split, data)
    counts = ", ".join(f"{split} {len(d.columns['utt2spk'])}" for split, d in splits.items())
    return f"{out}: utterances in {counts}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)
    return run_command(lambda: {"covost2": _covost2, "an4": _an4}[args.corpus](args))


if __name__ == "__main__":
    main_guard(main)
