# SPDX-License-Identifier: Apache-2.0
"""Stage 5: one token list for all languages and both tasks."""

import argparse
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
from espnet_objsoup.data.token_list import (
    TOKEN_TYPES,
    Corpus,
    make_bpe_tokens,
    make_char_tokens,
    write_token_list,
)


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser("make_token_list", "Make tokens.txt and, for bpe, bpe.model.")
    parser.add_argument("--data_dirs", type=string_list, required=True, help="training data")
    parser.add_argument("--token_type", choices=TOKEN_TYPES, default="bpe")
    parser.add_argument("--nbpe", type=positive_int, default=250, help="size of the BPE model")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        corpus = Corpus.of(datadir.read(Path(path)) for path in args.data_dirs)
        args.out.mkdir(parents=True, exist_ok=True)
        model = args.out / "bpe.model"
        if args.token_type == "bpe":
            tokens = make_bpe_tokens(corpus, args.nbpe, model)
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
