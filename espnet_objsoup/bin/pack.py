# SPDX-License-Identifier: Apache-2.0
"""Stage 14: a zip of a trained model, with its model card, that ESPnet's tools read."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from humanfriendly import format_size

from espnet_objsoup.bin.cli import main_guard, make_parser, run_command, string_list
from espnet_objsoup.bin.data_options import true_or_false
from espnet_objsoup.zoo.pack import PackRequest, pack

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def repository(value: str) -> str:
    """Type of `--hf_repo`; empty for none.

    Raises:
        argparse.ArgumentTypeError: for anything but `user/name`.
    """
    if value and not _REPOSITORY.fullmatch(value):
        raise argparse.ArgumentTypeError(f"expected user/name, found {value!r}")
    return value


def license_id(value: str) -> str:
    """Type of `--license`; empty for none.

    Raises:
        argparse.ArgumentTypeError: for what is not an identifier as the hub writes them.
    """
    if value and not _LICENSE.fullmatch(value):
        raise argparse.ArgumentTypeError(
            f"expected an identifier such as cc-by-4.0, apache-2.0 or other, found {value!r}"
        )
    return value


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser("pack", "Pack a trained model into a zip, with a model card.")
    parser.add_argument("--exp_dir", type=Path, required=True, help="exp/T")
    parser.add_argument(
        "--model_file", help="weights in exp/T (default: valid.loss.ave.pth)", default=""
    )
    parser.add_argument("--out", type=Path, help="the archive (default: exp/T.zip)")
    parser.add_argument(
        "--inference_config", type=Path, help="options of the search, if stage 12 was not run"
    )
    parser.add_argument("--license", type=license_id, default="", help="such as cc-by-4.0")
    parser.add_argument("--hf_repo", type=repository, default="", help="user/name, for the card")
    parser.add_argument("--recipe", default="", help="name of the recipe, for the card")
    parser.add_argument("--corpus", default="", help="names of the corpora, for the card")
    parser.add_argument(
        "--datasets", type=string_list, default=[], help="their ids on the hub, for the card"
    )
    parser.add_argument(
        "--install", default="", help="command that installs this package (default: by version)"
    )
    parser.add_argument(
        "--trust_weights",
        type=true_or_false,
        default=False,
        help="read weights as a pickle, which can run any program, and save them again",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        target = pack(
            PackRequest(
                experiment=args.exp_dir,
                target=args.out,
                model_file=args.exp_dir / args.model_file if args.model_file else None,
                inference_config=args.inference_config,
                license=args.license,
                corpus=args.corpus,
                datasets=args.datasets,
                recipe=args.recipe,
                hf_repo=args.hf_repo,
                install=args.install,
                trust_weights=args.trust_weights,
            )
        )
        return f"{target}: {format_size(target.stat().st_size)}, checked by unpacking"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
