# SPDX-License-Identifier: Apache-2.0
"""Stage 1, if asked for: get a corpus from where it is published."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from espnet_objsoup.bin.cli import main_guard, make_parser, run_command, string_list
from espnet_objsoup.bin.data_options import true_or_false
from espnet_objsoup.data.corpora.sources import (
    CORPORA,
    describe_common_voice,
    missing_common_voice,
)
from espnet_objsoup.data.download import DownloadError, get_archives
from espnet_objsoup.data.languages import parse_langs


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser(
        "download_corpus",
        "Say where a corpus comes from, its licence and its size; download and unpack what anybody "
        "may download, and say what has to be fetched by hand.",
        epilog="What is there already is not fetched again; an interrupted download goes on where "
        "it stopped. Archives that were put into DIR by hand are checked and unpacked.",
    )
    parser.add_argument("corpus", choices=sorted(CORPORA))
    parser.add_argument("--dir", type=Path, required=True, help="directory of the corpus")
    parser.add_argument(
        "--parts",
        type=string_list,
        default=[],
        help="parts of it: train-clean-100 dev-clean, or directions such as fr_en",
    )
    parser.add_argument(
        "--commonvoice", type=Path, help="with covost2: directory of Common Voice, to be looked at"
    )
    parser.add_argument("--langs", type=string_list, default=[], help="languages of Common Voice")
    parser.add_argument(
        "--mirror",
        type=_address,
        help="address that has the archives, instead of the publisher's; name and password belong "
        "into ~/.netrc",
    )
    parser.add_argument(
        "--keep_archives", type=true_or_false, default=False, metavar="true|false",
        help="do not delete archives after unpacking",
    )  # fmt: skip
    parser.add_argument(
        "--print_only", type=true_or_false, default=False, metavar="true|false",
        help="download nothing",
    )  # fmt: skip
    return parser


def _address(value: str) -> str:
    """An address that may be printed; the value is not repeated, as it may hold a password."""
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        secret = parts.username is not None or parts.password is not None
    except ValueError:
        valid = secret = False
    if secret:
        raise argparse.ArgumentTypeError(
            "expected an address without name and password, which would be in logs, found one; put "
            "them into ~/.netrc"
        )
    if not valid:
        raise argparse.ArgumentTypeError("expected http://... or https://..., found something else")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 if all of the corpus is in place."""
    args = get_parser().parse_args(argv)
    langs = parse_langs(args.langs)

    def work() -> str:
        corpus = CORPORA[args.corpus]
        archives = corpus.select(args.parts)
        if args.mirror:
            mirror = args.mirror.rstrip("/")
            archives = [replace(a, url=f"{mirror}/{a.name}") for a in archives]
        print(corpus.describe(archives, args.dir), flush=True)
        if args.corpus == "covost2":
            print(describe_common_voice(args.commonvoice, langs), flush=True)
        if args.print_only:
            return "nothing was downloaded"
        new = get_archives(archives, args.dir, args.keep_archives)
        made = f"{args.dir}: {len(new)} of {len(archives)} parts are new, the others were there"
        if args.commonvoice is not None:
            missing = missing_common_voice(args.commonvoice, langs)
            if missing:
                raise DownloadError(
                    f"{made}. Common Voice has to be put there by hand, as said above; expected "
                    f"and not found: {', '.join(map(str, missing))}"
                )
        return f"{made}; set {corpus.variable}={args.dir}"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
