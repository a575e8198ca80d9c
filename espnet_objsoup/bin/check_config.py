# SPDX-License-Identifier: Apache-2.0
"""Checks of configurations before the first stage, and what statistics depend on."""

import argparse
import hashlib
import json
import shlex
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from espnet_objsoup.bin.cli import (
    main_guard,
    make_parser,
    positive_int,
    print_error,
    string_list,
)
from espnet_objsoup.data.languages import parse_pairs
from espnet_objsoup.decoding.options import DecodeOptions
from espnet_objsoup.evaluation.bleu_tokenizers import check_bleu_tokenizers
from espnet_objsoup.objectives import check_trainer_conf

# Options that change neither the shapes nor the features that stage 10 collects. Whatever is not
# listed counts, so that an option unknown here repeats the stage rather than leaves it stale.
NOT_FOR_STATISTICS = (
    "trainer trainer_conf optim optim_conf optim[0-9]* scheduler scheduler_conf scheduler[0-9]* "
    "encoder encoder_conf *decoder *decoder_conf ctc_conf specaug specaug_conf normalize "
    "normalize_conf init init_param freeze_param ignore_init_mismatch seed max_epoch patience "
    "batch_* valid_batch_* iterator_type num_iters_per_epoch sort_* drop_last_iter accum_grad "
    "grad_* val_scheduler_criterion early_stopping_criterion best_model_criterion "
    "keep_nbest_models nbest_averaging_interval num_att_plot num_workers num_cache_chunks "
    "log_interval log_level use_tensorboard use_matplotlib use_wandb wandb_* use_amp resume "
    "cudnn_* ngpu dist_* multiprocessing_distributed detect_anomaly no_forward_run dry_run "
    "create_graph_in_tensorboard unused_parameters save_strategy use_lora lora_conf "
    "use_adapter adapter_conf sampler_conf print_soup ssl ssl_conf objectives"
).split()


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser(
        "check_config",
        "Check that configurations are YAML mappings; prints a checksum of what statistics (stage "
        "10) depend on.",
    )
    parser.add_argument("--config", type=Path, required=True, help="of training")
    parser.add_argument("--inference_config", type=Path, help="of decoding")
    parser.add_argument(
        "--nbest", type=positive_int, help="hypotheses of decoding; wins over --inference_config"
    )
    parser.add_argument(
        "--st_pairs",
        type=string_list,
        default=[],
        help="translations to be scored, such as 'en-ja': what BLEU needs has to be installed",
    )
    parser.add_argument("--train_args", default="", help="more options of training, as one string")
    return parser


def read_yaml(path: Path) -> dict[str, Any]:
    """A configuration.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not YAML or not a mapping, with the line.
    """
    conf = _load(path)
    if not isinstance(conf, dict):
        raise ValueError(f"{path}: expected `option: value` lines, found {conf!r}")
    return conf


def _load(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None) or getattr(err, "context_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        problem = getattr(err, "problem", None) or str(err)
        line = text.splitlines()[mark.line].strip() if mark and mark.line < text.count("\n") else ""
        raise ValueError(
            f"{where}: expected YAML, found {line!r} ({problem}); mend that line or the one before"
        ) from err


def statistics_options(conf: dict[str, Any], train_args: str = "") -> dict[str, Any]:
    """The options that shapes and features depend on.

    Args:
        conf: a training configuration.
        train_args: options of the command line, which go before the configuration.
    """
    options: dict[str, Any] = dict(conf)
    key = ""
    for word in shlex.split(train_args):
        if word.startswith("--"):
            key, _, value = word[2:].partition("=")
            options[f"--{key}"] = [value] if value else []
        elif key:
            options[f"--{key}"].append(word)
    options.pop("model_conf", None)
    model_conf = conf.get("model_conf")
    if isinstance(model_conf, dict) and "extract_feats_in_collect_stats" in model_conf:
        options["model_conf"] = model_conf["extract_feats_in_collect_stats"]
    return {
        name: value
        for name, value in options.items()
        if not any(fnmatchcase(name.removeprefix("--"), glob) for glob in NOT_FOR_STATISTICS)
    }


def check_trainer(path: Path, conf: dict[str, Any], train_args: str = "") -> None:
    """Check `trainer` and `trainer_conf` as far as that is possible without the data.

    Raises:
        ValueError: naming the file and the key.
    """
    if "--trainer" in train_args:
        return  # known only once both are put together; training checks it
    try:
        check_trainer_conf(str(conf.get("trainer", "default")).lower(), conf.get("trainer_conf"))
    except ValueError as err:
        raise ValueError(f"{path}: {err}") from err


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)
    try:
        check_bleu_tokenizers(target for _, target in parse_pairs(args.st_pairs))
        conf = read_yaml(args.config)
        check_trainer(args.config, conf, args.train_args)
        if args.inference_config is not None:
            _load(args.inference_config)  # names the line of a mistake
            DecodeOptions.from_yaml(args.inference_config, args.nbest)
    except (ValueError, OSError) as err:
        print_error(err)
        return 1
    relevant = json.dumps(statistics_options(conf, args.train_args), sort_keys=True, default=str)
    print(hashlib.sha256(relevant.encode()).hexdigest())
    return 0


if __name__ == "__main__":
    main_guard(main)
