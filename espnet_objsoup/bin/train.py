# SPDX-License-Identifier: Apache-2.0
"""Stages 10 and 11: collect statistics and train, ESPnet's command line.

Besides ESPnet's options it takes four that stand for many of them:
`--train_dir`, `--valid_dir` (data directories), `--stats_dir` (result of collect_stats),
`--token_dir` (result of make_token_list).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

INPUTS = (
    ("wav.scp", "speech", "sound"),
    ("text", "text", "text"),
    ("st_text", "st_text", "text"),
    ("utt2lang", "lang", "text"),
    ("utt2tgt", "tgt_lang", "text"),
)


def get_parser() -> argparse.ArgumentParser:
    """Parser of the four options; everything else is ESPnet's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--train_dir", type=Path)
    parser.add_argument("--valid_dir", type=Path)
    parser.add_argument("--stats_dir", type=Path)
    parser.add_argument("--token_dir", type=Path)
    return parser


def expand(argv: Sequence[str]) -> list[str]:
    """ESPnet's command line for ours.

    Raises:
        FileNotFoundError: if a directory lacks a file that is needed.
    """
    args, rest = get_parser().parse_known_args(list(argv))
    command: list[str] = []
    for split, directory in (("train", args.train_dir), ("valid", args.valid_dir)):
        if directory is None:
            continue
        _require(directory / "wav.scp", "a data directory of stage 4 (wav.scp, utt2lang, ...)")
        for file, name, kind in INPUTS:
            if (directory / file).exists():
                option = f"--{split}_data_path_and_name_and_type"
                command += [option, f"{directory / file},{name},{kind}"]
        if args.stats_dir is not None:
            shape = args.stats_dir / split / "speech_shape"
            _require(shape, "the result of stage 10 (collect_stats)")
            command += [f"--{split}_shape_file", str(shape)]
    if args.token_dir is not None:
        tokens = args.token_dir / "tokens.txt"
        _require(tokens, "the result of stage 5 (make_token_list)")
        command += ["--token_list", str(tokens)]
        model = args.token_dir / "bpe.model"
        if model.exists():
            command += ["--token_type", "bpe", "--bpemodel", str(model)]
        else:
            command += ["--token_type", "char"]
    if args.stats_dir is not None:
        stats = args.stats_dir / "train" / "feats_stats.npz"
        if stats.exists() and _normalize(rest) == "global_mvn":
            command += ["--normalize_conf", f"stats_file={stats}"]
    return [*command, *rest]


def _normalize(argv: Sequence[str]) -> str | None:
    """Value of `normalize` as ESPnet will see it: command line before YAML."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--normalize")
    parser.add_argument("--config")
    args, _ = parser.parse_known_args(list(argv))
    if args.normalize is not None or args.config is None:
        return args.normalize
    import yaml

    with open(args.config, encoding="utf-8") as file:
        return (yaml.safe_load(file) or {}).get("normalize")


def _require(path: Path, meaning: str) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path}: not found; expected {meaning}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run ObjSoupTask."""
    command = expand(sys.argv[1:] if argv is None else argv)
    from espnet_objsoup.tasks.objsoup import ObjSoupTask

    ObjSoupTask.main(cmd=command)


if __name__ == "__main__":
    main()
