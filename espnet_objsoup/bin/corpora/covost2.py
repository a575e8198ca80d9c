# SPDX-License-Identifier: Apache-2.0
"""`prepare_corpus covost2`."""

import argparse
import sys
from pathlib import Path

from espnet_objsoup.bin.cli import positive_int, string_list
from espnet_objsoup.bin.corpora.common import add_out, add_text_policies
from espnet_objsoup.data.corpora import covost2
from espnet_objsoup.data.corpora.covost2_report import LEAKS

HELP = "CoVoST 2 on Common Voice"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this corpus."""
    parser.add_argument(
        "--commonvoice", type=Path, required=True, help="folder per language, or of a release"
    )
    parser.add_argument("--covost2", type=Path, help="folder with covost_v2.<src>_<tgt>.tsv")
    parser.add_argument("--langs", type=string_list, required=True, help='recognition: "en fr de"')
    parser.add_argument("--st_pairs", type=string_list, default=[], help='translation: "fr-en"')
    add_text_policies(parser)
    parser.add_argument(
        "--max_lost", type=_share, default=0.1,
        help="share of a language's clips or texts that may be unusable, from 0 to 1",
    )  # fmt: skip
    parser.add_argument(
        "--forbid_leak", type=string_list, default=[],
        help=f"what may not be in two splits: {' '.join(LEAKS)}; otherwise it is counted",
    )  # fmt: skip
    parser.add_argument("--nj", type=positive_int, default=1, help="processes, each for a language")
    add_out(parser)


def _share(value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {value!r}")
    return share


def run(args: argparse.Namespace) -> str:
    """Prepare the corpus; returns what was made, in words."""
    config = covost2.CoVoST2Config(
        commonvoice=args.commonvoice,
        covost2=args.covost2,
        langs=covost2.parse_langs(args.langs),
        pairs=covost2.parse_pairs(args.st_pairs),
        asr_policy=args.asr_text_policy,
        st_policy=args.st_text_policy,
        max_lost=args.max_lost,
        forbid_leak=args.forbid_leak,
    )
    report = covost2.prepare(config, args.out, args.nj)
    for line in report.lines():
        print(line, file=sys.stderr)
    for split, objectives in report.objectives.items():
        counts = ", ".join(f"{objective} {n}" for objective, n in objectives.items())
        print(f"{args.out / split}: {counts}", file=sys.stderr)
    counts = ", ".join(f"{split} {n}" for split, n in report.rows.items())
    return f"{args.out}: utterances in {counts}"
