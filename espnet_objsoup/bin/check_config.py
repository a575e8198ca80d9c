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

from espnet_objsoup.bin.cli import (
    main_guard,
    make_parser,
    positive_int,
    print_error,
    string_list,
)
from espnet_objsoup.data.languages import parse_pairs
from espnet_objsoup.data.yaml_file import YamlError, load_yaml
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
    content = path.read_bytes()
    try:
        return load_yaml(content)
    except YamlError as err:
        if err.line is None:
            raise ValueError(f"{path}: expected YAML, found {err}; mend it") from err
        lines = content.decode("utf-8", errors="replace").split("\n")
        line = lines[err.line - 1].strip() if err.line < len(lines) else ""
        raise ValueError(
            f"{path}:{err.line}: expected YAML, found {line[:200]!r} ({err}); mend that line or "
            "the one before"
        ) from err


def _words(train_args: str) -> list[str]:
    try:
        return shlex.split(train_args)
    except ValueError as err:
        raise ValueError(
            f"train_args: expected words with quotes in pairs, found {train_args!r} ({err})"
        ) from err


def statistics_options(conf: dict[str, Any], train_args: str = "") -> dict[str, Any]:
    """The options that shapes and features depend on.

    Args:
        conf: a training configuration.
        train_args: options of the command line, which go before the configuration.

    Raises:
        ValueError: if quotes of `train_args` do not go together.
    """
    options: dict[str, Any] = {str(name): value for name, value in conf.items()}
    key = ""
    for word in _words(train_args):
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


def _with_names(value: Any) -> Any:
    """Keys as texts: those of YAML may be of several types, which cannot be sorted."""
    if isinstance(value, dict):
        return {str(key): _with_names(item) for key, item in value.items()}
    return [_with_names(item) for item in value] if isinstance(value, list) else value


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
        options = statistics_options(conf, args.train_args)
    except (ValueError, OSError) as err:
        print_error(err)
        return 1
    relevant = json.dumps(_with_names(options), sort_keys=True, default=str)
    print(hashlib.sha256(relevant.encode()).hexdigest())
    return 0


if __name__ == "__main__":
    main_guard(main)
