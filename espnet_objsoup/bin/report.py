# SPDX-License-Identifier: Apache-2.0
"""A page about one or several trainings: losses, weights, conflicts, scores, times."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, positive_int, print_error, run_command

_FORMS = {"both": ("png", "svg"), "png": ("png",), "svg": ("svg",), "none": ()}


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser("report", "Write a page (HTML) about trainings, finished or going on.")
    parser.add_argument(
        "experiments", nargs="+", type=Path, metavar="exp/TAG",
        help="directories of experiments; several are compared",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FILE.html",
        help="page to write; unless given, report.html in the experiment, or in the directory that "
        "all have in common",
    )  # fmt: skip
    parser.add_argument(
        "--watch", type=positive_int, metavar="SECONDS",
        help="look so often for what training has written since, until Ctrl-C",
    )  # fmt: skip
    parser.add_argument(
        "--figures", choices=sorted(_FORMS),
        help="files of every figure, in FILE_figures; unless given, both, with --watch none",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = get_parser()
    args = parser.parse_args(argv)
    output = args.output or default_output(args.experiments)
    if output.suffix != ".html":
        parser.error(f"--output: expected a name that ends in .html, found {output}")
    forms = _FORMS[args.figures or ("none" if args.watch else "both")]
    from espnet_objsoup.report.page import make_report
    from espnet_objsoup.report.watch import watch, write_report

    if args.watch is None:
        return run_command(lambda: write_report(make_report(args.experiments, forms), output))
    try:
        watch(args.experiments, output, forms, args.watch)
    except (ValueError, OSError) as err:
        print_error(err)
        return 1
    return 0


def default_output(experiments: Sequence[Path]) -> Path:
    """Page of experiments for which none is named."""
    if len(experiments) == 1:
        return experiments[0] / "report.html"
    common = os.path.commonpath([os.path.abspath(path) for path in experiments])
    return Path(os.path.relpath(common)) / "report.html"


if __name__ == "__main__":
    main_guard(main)
