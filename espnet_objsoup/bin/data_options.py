# SPDX-License-Identifier: Apache-2.0
"""Options that several commands for data directories have."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from espnet_objsoup.data.datadir import OPTIONAL, REQUIRED


def true_or_false(value: str) -> bool:
    """Type of options such as `--allow_pipes true`, which Kaldi and ESPnet spell out.

    Raises:
        argparse.ArgumentTypeError: for anything but `true` or `false`.
    """
    if value not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, found {value!r}")
    return value == "true"


def add_allow_pipes(parser: argparse.ArgumentParser) -> None:
    """Add `--allow_pipes`."""
    parser.add_argument(
        "--allow_pipes",
        type=true_or_false,
        default=False,
        metavar="true|false",
        help="run the commands of wav.scp (lines that end in |), with bash and your rights",
    )


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add `--cluster`."""
    parser.add_argument(
        "--cluster",
        type=Path,
        help="YAML of a cluster (conf/cluster/slurm.yaml): its jobs are the --nj processes; "
        "without it they are on this machine",
    )


def warn_of_other_files(directories: Iterable[Path]) -> None:
    """Say which files of data directories are not taken over."""
    known = {*REQUIRED, *OPTIONAL, "spk2utt"}
    for directory in directories:
        if not directory.is_dir():
            continue  # reading it says so
        names = {p.name for p in directory.iterdir() if p.is_file() and p.name[0] != "."}
        for name in sorted(names - known):
            print(
                f"warning: {directory / name}: not a file of data directories, not taken over",
                file=sys.stderr,
            )


def print_counts(name: Path | str, objectives: Mapping[str, int]) -> None:
    """Say how many utterances each objective has; one that is missing or small strikes the eye."""
    counts = ", ".join(f"{objective} {n}" for objective, n in sorted(objectives.items()))
    print(f"{name}: {counts or 'no labels'}", file=sys.stderr)
