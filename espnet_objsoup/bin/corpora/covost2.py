# SPDX-License-Identifier: Apache-2.0
"""`prepare_corpus covost2`."""

import argparse
import sys
from pathlib import Path

from espnet_objsoup.bin.cli import string_list
from espnet_objsoup.bin.corpora.common import add_out, add_text_policies, write_splits
from espnet_objsoup.data.corpora import covost2

HELP = "CoVoST 2 on Common Voice"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this corpus."""
    parser.add_argument("--commonvoice", type=Path, required=True, help="folder per language")
    parser.add_argument("--covost2", type=Path, help="folder with covost_v2.<src>_<tgt>.tsv")
    parser.add_argument("--langs", type=string_list, required=True, help='recognition: "en fr de"')
    parser.add_argument("--st_pairs", type=string_list, default=[], help='translation: "fr-en"')
    add_text_policies(parser)
    add_out(parser)


def run(args: argparse.Namespace) -> str:
    """Prepare the corpus; returns what was made, in words."""
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
    return write_splits(splits, args.out)
