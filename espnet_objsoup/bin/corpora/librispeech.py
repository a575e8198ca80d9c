# SPDX-License-Identifier: Apache-2.0
"""`prepare_corpus librispeech`."""

import argparse

from espnet_objsoup.bin.corpora.read_speech import add_corpus_arguments, prepare

HELP = "LibriSpeech, alone or with AISHELL-1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this corpus."""
    add_corpus_arguments(parser, "librispeech")


def run(args: argparse.Namespace) -> str:
    """Prepare the corpus; returns what was made, in words."""
    return prepare(args)
