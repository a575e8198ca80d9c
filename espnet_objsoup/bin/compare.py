# SPDX-License-Identifier: Apache-2.0
"""Trains soups and baselines with several seeds, and writes a table of their scores."""

import argparse
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import (
    main_guard,
    make_parser,
    positive_int,
    print_error,
    string_list,
)
from espnet_objsoup.bin.data_options import true_or_false
from espnet_objsoup.data.parallel import terminated_as_interrupted


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser(
        "compare",
        "Train, decode and score every (variant, arm, seed) that has no result yet; then write "
        "RESULTS.md. Runs in a recipe's directory; compare.sh of mini_objsoup calls it.",
    )
    parser.add_argument(
        "--comparison", type=Path, default=Path("conf/compare.yaml"), help="arms and variants"
    )
    parser.add_argument(
        "--arms", type=string_list, default=["main"], help="names, groups such as main, or all"
    )
    parser.add_argument("--seeds", type=_seeds, default=[1, 2, 3], help="of training")
    parser.add_argument("--variants", type=string_list, default=["balanced"], help="names, or all")
    parser.add_argument("--jobs", type=positive_int, default=2, help="runs at a time, a core each")
    parser.add_argument(
        "--equal_cost", type=true_or_false, default=False,
        help="arms whose updates cost more get fewer of them, in results of their own",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=true_or_false, default=False, help="keep the checkpoints of finished runs"
    )
    parser.add_argument(
        "--dry_run", type=true_or_false, default=False, help="show the commands and end"
    )
    parser.add_argument(
        "--table", type=true_or_false, default=False, help="only write RESULTS.md from the results"
    )
    parser.add_argument(
        "--report", type=true_or_false, default=True, help="also a page about the first seed's runs"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="directory")
    parser.add_argument("--run", default="./run.sh", help="the recipe's script")
    parser.add_argument(
        "--inference_config", type=Path, default=Path("conf/decode.yaml"), help="of decoding"
    )
    return parser


def _seeds(value: str) -> list[int]:
    try:
        seeds = [int(word) for word in string_list(value)]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"expected distinct whole numbers, found {value!r}")
    return seeds


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)
    from espnet_objsoup.comparison.plan import PlanError
    from espnet_objsoup.comparison.session import Session

    # One thread for each run: several that wait for each other are slower than one.
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with terminated_as_interrupted():
            return Session.of(args).main()
    except PlanError as err:
        print_error(err)
        return 2
    except (ValueError, OSError, RuntimeError) as err:
        print_error(err)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the runs that have no result", flush=True)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    main_guard(main)
