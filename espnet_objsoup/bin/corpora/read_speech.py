# SPDX-License-Identifier: Apache-2.0
"""What `prepare_corpus librispeech` and `prepare_corpus aishell` share.

Each prepares its own corpus, and with the other one's directory both together.
"""

import argparse
from pathlib import Path

from espnet_objsoup.bin.cli import positive_int
from espnet_objsoup.bin.corpora.common import (
    add_max_lost,
    add_out,
    add_text_policies,
    report,
)
from espnet_objsoup.data.corpora import aishell, librispeech
from espnet_objsoup.data.corpora.speakers import write_corpora


def add_corpus_arguments(parser: argparse.ArgumentParser, own: str) -> None:
    """Add all options; the directory of the corpus `own` is required."""
    parser.add_argument(
        "--librispeech",
        type=Path,
        required=own == "librispeech",
        help="folder that contains LibriSpeech/",
    )
    parser.add_argument(
        "--train_subset",
        choices=librispeech.TRAIN_SUBSETS,
        default="960",
        help="hours of LibriSpeech to train with",
    )
    parser.add_argument(
        "--unlabelled_subset",
        choices=["", *librispeech.TRAIN_SUBSETS],
        default="",
        help="hours of LibriSpeech whose audio is added without transcripts, for self-supervision; "
        "what --train_subset holds keeps its transcripts",
    )
    parser.add_argument(
        "--aishell", type=Path, required=own == "aishell", help="folder that contains data_aishell/"
    )
    parser.add_argument(
        "--unpack_dir",
        type=Path,
        default=Path("downloads/aishell_wav"),
        help="where AISHELL-1's archives of speakers are unpacked that have no folder there",
    )
    add_text_policies(parser, translations=False)
    add_max_lost(parser, "the recordings and transcripts")
    parser.add_argument("--nj", type=positive_int, default=1, help="processes")
    add_out(parser)


def prepare(args: argparse.Namespace) -> str:
    """Prepare one corpus or both; returns what was made, in words."""
    corpora = []
    if args.librispeech is not None:
        corpora.append(
            librispeech.open_corpus(
                librispeech.LibriSpeechConfig(
                    root=args.librispeech,
                    train_subset=args.train_subset,
                    unlabelled_subset=args.unlabelled_subset,
                    asr_policy=args.asr_text_policy,
                )
            )
        )
    if args.aishell is not None:
        config = aishell.AishellConfig(args.aishell, args.unpack_dir, args.asr_text_policy)
        corpora.append(aishell.open_corpus(config, args.nj, alone=args.librispeech is None))
    written = write_corpora(corpora, args.out, args.nj, args.max_lost)
    return report(args.out, written.remarks, written.objectives, written.rows)
