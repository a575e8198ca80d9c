# SPDX-License-Identifier: Apache-2.0
"""`config.yaml` of a model: reading, and what of it goes into a packed one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from espnet_objsoup.decoding.options import InferenceError, read_train_config
from espnet_objsoup.inference.lengths import TRAINED_LENGTH, trained_length
from espnet_objsoup.objectives import ObjectiveSpec
from espnet_objsoup.zoo.errors import ModelError

# What building the model, its tokenizer and its preprocessor takes; the rest is about training.
KEPT = (
    "objectives", "token_list", "token_type", "bpemodel", "cleaner",
    "init", "input_size", "ctc_conf", "model_conf",
    "frontend", "frontend_conf", "specaug", "specaug_conf", "normalize", "normalize_conf",
    "preencoder", "preencoder_conf", "encoder", "encoder_conf",
    "asr_decoder", "asr_decoder_conf", "st_decoder", "st_decoder_conf", "ssl", "ssl_conf",
    "use_preprocessor", "preprocessor", "preprocessor_conf",
    "use_adapter", "adapter", "adapter_conf",
    "version", TRAINED_LENGTH,
)  # fmt: skip
# What else a configuration has to be, so that it can be talked of before a model is built.
_KINDS = {
    **{key: Mapping for key in KEPT if key.endswith("_conf")},
    "token_list": list | str, "token_type": str, "bpemodel": str,
}  # fmt: skip


def read_conf(path: Path) -> dict[str, Any]:
    """Configuration of a model of this package.

    Raises:
        ModelError: if it is missing or anything else.
    """
    try:
        conf = read_train_config(path)
    except InferenceError as err:
        raise ModelError(str(err)) from err
    except OSError as err:
        raise ModelError(f"{path}: expected a configuration, found {err.strerror}") from err
    _check_kinds(conf, path)
    return conf


def _check_kinds(conf: Mapping[str, Any], path: Path) -> None:
    for key, kind in _KINDS.items():
        value = conf.get(key)
        if value is not None and not isinstance(value, kind):
            expected = "options" if kind is Mapping else str(getattr(kind, "__name__", kind))
            raise ModelError(f"{path}: {key}: expected {expected}, found {str(value)[:80]!r}")
    try:
        if not isinstance(conf["objectives"], list):
            raise ValueError(f"expected a list, found {str(conf['objectives'])[:80]!r}")
        for name in conf["objectives"]:
            ObjectiveSpec.parse(name)
    except (ValueError, TypeError, AttributeError) as err:
        raise ModelError(f"{path}: objectives: {err}") from err
    try:
        if TRAINED_LENGTH in conf:
            trained_length(conf)
    except InferenceError as err:
        raise ModelError(f"{path}: {err}") from err


def dump_conf(conf: Mapping[str, Any]) -> bytes:
    """A YAML of a configuration; equal ones give equal bytes."""
    return yaml.safe_dump(dict(conf), allow_unicode=True, sort_keys=True).encode()


def for_model(conf: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that a model is built from, without training and data."""
    kept = {key: conf[key] for key in KEPT if key in conf}
    if "preprocessor_conf" in kept:
        kept["preprocessor_conf"] = {}  # noise and reverberation, of files that only training has
    return kept
