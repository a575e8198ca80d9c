# SPDX-License-Identifier: Apache-2.0
"""Checks how jobs of a cluster are submitted, and shows one; submits nothing."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, positive_int, run_command
from espnet_objsoup.bin.data_options import true_or_false
from espnet_objsoup.data.cluster import job_script, read_cluster


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser("cluster", "Check a cluster's YAML and print the job that it makes.")
    parser.add_argument("--config", type=Path, required=True, help="conf/cluster/....yaml")
    parser.add_argument("--nj", type=positive_int, default=1, help="workers")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="where jobs write")
    parser.add_argument(
        "--show", type=true_or_false, default=True, metavar="true|false", help="print the job"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        config = read_cluster(args.config)
        if args.show:
            print(job_script(config, args.logs))
        return f"{args.config}: {config.jobs(args.nj)} job(s) for {args.nj} worker(s)"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
