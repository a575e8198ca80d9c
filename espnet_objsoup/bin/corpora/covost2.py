# SPDX-License-Identifier: Apache-2.0
"""`prepare_corpus covost2`."""

import argparse
from pathlib import Path

from espnet_objsoup.bin.cli import positive_int, string_list
from espnet_objsoup.bin.corpora.common import (
    add_max_lost,
    add_out,
    add_text_policies,
    report,
)
from espnet_objsoup.data.corpora import covost2
from espnet_objsoup.data.corpora.covost2_report import LEAKS
from espnet_objsoup.data.languages import parse_langs, parse_pairs

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
    add_max_lost(parser, "a language's clips or texts")
    parser.add_argument(
        "--forbid_leak", type=string_list, default=[],
        help=f"what may not be in two splits: {' '.join(LEAKS)}; otherwise it is counted",
    )  # fmt: skip
    parser.add_argument("--nj", type=positive_int, default=1, help="processes, each for a language")
    add_out(parser)


def run(args: argparse.Namespace) -> str:
    """Prepare the corpus; returns what was made, in words."""
    config = covost2.CoVoST2Config(
        commonvoice=args.commonvoice,
        covost2=args.covost2,
        langs=parse_langs(args.langs),
        pairs=parse_pairs(args.st_pairs),
        asr_policy=args.asr_text_policy,
        st_policy=args.st_text_policy,
        max_lost=args.max_lost,
        forbid_leak=args.forbid_leak,
    )
    found = covost2.prepare(config, args.out, args.nj)
    return report(args.out, found.lines(), found.objectives, found.rows)
