# SPDX-License-Identifier: Apache-2.0
"""`prepare_corpus aishell`."""

import argparse

from espnet_objsoup.bin.corpora.read_speech import add_corpus_arguments, prepare

HELP = "AISHELL-1, alone or with LibriSpeech"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this corpus."""
    add_corpus_arguments(parser, "aishell")


def run(args: argparse.Namespace) -> str:
    """Prepare the corpus; returns what was made, in words."""
    return prepare(args)
