# SPDX-License-Identifier: Apache-2.0
"""Stages 10 and 11: collect statistics and train, ESPnet's command line.

Besides ESPnet's options it takes four that stand for many of them:
`--train_dir`, `--valid_dir` (data directories), `--stats_dir` (result of collect_stats),
`--token_dir` (result of make_token_list).
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_objsoup.bin.check_config import read_yaml
from espnet_objsoup.bin.espnet_task import run_task
from espnet_objsoup.bin.input_checks import (
    check_sample_rate,
    check_statistics,
    model_sample_rate,
)
from espnet_objsoup.data.audio_io import espnet_type

if TYPE_CHECKING:
    from espnet_objsoup.tasks.objsoup import ObjSoupTask

# The type of `speech` depends on what wav.scp holds.
INPUTS = (
    ("wav.scp", "speech", None),
    ("text", "text", "text"),
    ("st_text", "st_text", "text"),
    ("utt2lang", "lang", "text"),
    ("utt2tgt", "tgt_lang", "text"),
)


def get_parser() -> argparse.ArgumentParser:
    """Parser of the four options; everything else is ESPnet's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_directories(parser)
    return parser


def add_directories(parser: argparse.ArgumentParser) -> None:
    """Add the options that stand for many of ESPnet's."""
    group = parser.add_argument_group("Directories that stand for many options")
    group.add_argument("--train_dir", type=Path, help="data directory of stage 4 to train with")
    group.add_argument("--valid_dir", type=Path, help="data directory of stage 4 to validate with")
    group.add_argument("--stats_dir", type=Path, help="statistics of stage 10 (collect_stats)")
    group.add_argument("--token_dir", type=Path, help="token list of stage 5 (make_token_list)")


def expand(argv: Sequence[str]) -> list[str]:
    """ESPnet's command line for ours.

    Raises:
        OSError: if a directory lacks a file that is needed.
        ValueError: if the configuration, the audio and the statistics do not fit together.
    """
    args, rest = get_parser().parse_known_args(list(argv))
    conf = _configuration(rest)
    rate_hz = model_sample_rate(conf)
    command: list[str] = []
    for split, directory in (("train", args.train_dir), ("valid", args.valid_dir)):
        if directory is None:
            continue
        _require(directory / "wav.scp", "a data directory of stage 4 (wav.scp, utt2lang, ...)")
        speech = espnet_type(directory / "wav.scp")
        for file, name, kind in INPUTS:
            if (directory / file).exists():
                option = f"--{split}_data_path_and_name_and_type"
                command += [option, f"{directory / file},{name},{kind or speech}"]
        if rate_hz is not None:
            check_sample_rate(directory, rate_hz, _where(rest))
        if args.stats_dir is not None:
            shape = args.stats_dir / split / "speech_shape"
            _require(shape, "the result of stage 10 (collect_stats)")
            check_statistics(args.stats_dir, split, directory)
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
        if stats.exists() and conf.get("normalize") == "global_mvn":
            command += ["--normalize_conf", f"stats_file={stats}"]
    return [*command, *rest]


def _configuration(argv: Sequence[str]) -> dict[str, Any]:
    """What is read here of ESPnet's options: command line before YAML."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--normalize")
    parser.add_argument("--frontend")
    parser.add_argument("--input_size")
    parser.add_argument("--frontend_conf", action="append", default=[])
    args, _ = parser.parse_known_args(list(argv))
    conf = {} if args.config is None else read_yaml(args.config)
    for name in ("normalize", "frontend", "input_size"):
        if getattr(args, name) is not None:
            conf[name] = getattr(args, name)
    for word in args.frontend_conf:
        key, _, value = word.partition("=")
        conf["frontend_conf"] = {**(conf.get("frontend_conf") or {}), key: value}
    return conf


def _where(argv: Sequence[str]) -> str:
    for word, following in itertools.pairwise(argv):
        if word == "--config":
            return f"frontend_conf.fs of {following}"
    return "frontend_conf.fs"


def _require(path: Path, meaning: str) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path}: not found; expected {meaning}")


def _task() -> type["ObjSoupTask"]:
    from espnet_objsoup.tasks.objsoup import ObjSoupTask

    return ObjSoupTask


def main(argv: Sequence[str] | None = None) -> int:
    """Run ObjSoupTask; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    return run_task("train", _task, lambda: expand(words), add_directories)


if __name__ == "__main__":
    sys.exit(main())
