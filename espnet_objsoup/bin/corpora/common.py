# SPDX-License-Identifier: Apache-2.0
"""What the subcommands of `prepare_corpus` share."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from espnet_objsoup.bin.cli import share
from espnet_objsoup.bin.data_options import print_counts
from espnet_objsoup.data import datadir
from espnet_objsoup.data.text import POLICIES


def add_out(parser: argparse.ArgumentParser, directories: str = "train, dev, test") -> None:
    """Add `--out`, the parent of the data directories that the corpus gives."""
    parser.add_argument("--out", type=Path, default=Path("data"), help=f"parent of {directories}")


def add_text_policies(parser: argparse.ArgumentParser, translations: bool = True) -> None:
    """Add `--asr_text_policy` and, for corpora with translations, `--st_text_policy`."""
    parser.add_argument("--asr_text_policy", choices=POLICIES, default="lc.rm", help="transcripts")
    if translations:
        parser.add_argument("--st_text_policy", choices=POLICIES, default="tc", help="translations")


def add_max_lost(parser: argparse.ArgumentParser, of_what: str) -> None:
    """Add `--max_lost`."""
    parser.add_argument(
        "--max_lost",
        type=share,
        default=0.1,
        help=f"share of {of_what} that may be unusable in a split, from 0 to 1",
    )


def write_splits(splits: Mapping[str, datadir.DataDir], out: Path) -> str:
    """Write data directories `out/<split>`; returns what was made, in words.

    Raises:
        DataDirError: if the data are not valid.
        OSError: if a file cannot be written.
    """
    for split, data in splits.items():
        datadir.write(data, out / split)
        print_counts(out / split, datadir.objective_counts(data))
    return in_words(out, {split: len(d.columns["utt2spk"]) for split, d in splits.items()})


def report(
    out: Path,
    remarks: Iterable[str],
    objectives: Mapping[str, Mapping[str, int]],
    rows: Mapping[str, int],
) -> str:
    """Print what was found and written; returns what was made, in words.

    Args:
        out: parent of the data directories.
        remarks: lines about the corpus.
        objectives: data directory -> objective -> utterances with its label.
        rows: data directory -> utterances.
    """
    for line in remarks:
        print(line, file=sys.stderr)
    for name, counts in objectives.items():
        print_counts(out / name, counts)
    return in_words(out, rows)


def in_words(out: Path, rows: Mapping[str, int]) -> str:
    """How many utterances each data directory has."""
    return f"{out}: utterances in {', '.join(f'{name} {n}' for name, n in rows.items())}"
