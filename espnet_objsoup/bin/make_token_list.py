# SPDX-License-Identifier: Apache-2.0
"""Stage 5: one token list for all languages and both tasks."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import (
    main_guard,
    make_parser,
    positive_int,
    run_command,
    string_list,
)
from espnet_objsoup.data import datadir
from espnet_objsoup.data.languages import parse_langs
from espnet_objsoup.data.token_list import (
    TOKEN_TYPES,
    BpeGroup,
    Corpus,
    make_bpe_tokens,
    make_char_tokens,
    write_token_list,
)


def sizes(value: str) -> list[int | None]:
    """Type of `--nbpe`: `250`, or a size for each group such as `1000|char`; None is `char`."""
    return [None if word.strip() == "char" else positive_int(word) for word in value.split("|")]


def groups(value: str) -> list[tuple[str, ...]]:
    """Type of `--bpe_groups`: languages such as `en fr|zh`; nothing is one group of all.

    Raises:
        argparse.ArgumentTypeError: for a group without languages.
    """
    found = [tuple(parse_langs(string_list(words))) for words in value.split("|")]
    if len(found) > 1 and not all(found):
        raise argparse.ArgumentTypeError(
            f"expected languages on both sides of each |, found {value!r}"
        )
    return found


def temperature(value: str) -> float:
    """Type of `--bpe_temperature`.

    Raises:
        argparse.ArgumentTypeError: for anything but a number of at least 1.
    """
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 1 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number >= 1, found {value!r}")
    return number


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser("make_token_list", "Make tokens.txt and, for bpe, bpe.model.")
    parser.add_argument("--data_dirs", type=string_list, required=True, help="training data")
    parser.add_argument("--token_type", choices=TOKEN_TYPES, default="bpe")
    parser.add_argument(
        "--nbpe",
        type=sizes,
        default="250",
        help="size of the BPE model, or of each group's, such as '1000|4000'; char: a piece for "
        "each character",
    )
    parser.add_argument(
        "--bpe_groups",
        type=groups,
        default="",
        help="languages that share a BPE model, such as 'en fr|zh'; empty: all share one",
    )
    parser.add_argument(
        "--bpe_temperature",
        type=temperature,
        default="1",
        help="1: texts count as they are; above 1 languages with little text count for more, their "
        "share p of the characters as p^(1/T)",
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    return parser


def bpe_groups(
    parser: argparse.ArgumentParser, names: list[tuple[str, ...]], numbers: list[int | None]
) -> list[BpeGroup]:
    """Groups with their sizes; ends the command if there are not as many of both."""
    if len(names) != len(numbers):
        parser.error(
            f"--nbpe: expected a size for each of the {len(names)} groups of --bpe_groups, "
            f"separated by |, found {len(numbers)}"
        )
    return [BpeGroup(*pair) for pair in zip(names, numbers, strict=True)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = get_parser()
    args = parser.parse_args(argv)
    wanted = bpe_groups(parser, args.bpe_groups, args.nbpe)
    if args.token_type == "char" and any(args.bpe_groups):
        parser.error("--bpe_groups: expected nothing with --token_type char")

    def work() -> str:
        corpus = Corpus.of(datadir.read(Path(path)) for path in args.data_dirs)
        args.out.mkdir(parents=True, exist_ok=True)
        model = args.out / "bpe.model"
        if args.token_type == "bpe":
            tokens = make_bpe_tokens(corpus, wanted, model, args.bpe_temperature)
        else:
            model.unlink(missing_ok=True)
            tokens = make_char_tokens(corpus)
        whole = write_token_list(tokens, corpus.languages, args.out / "tokens.txt")
        return (
            f"{args.out / 'tokens.txt'}: {len(whole)} tokens from {len(corpus.texts)} texts, "
            f"languages {' '.join(corpus.languages)}"
        )

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
