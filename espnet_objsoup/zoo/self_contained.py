# SPDX-License-Identifier: Apache-2.0
"""Which configurations a model of somebody else may have: those that need its own files only.

Many of ESPnet's components load something when they are built: a checkpoint that an option names,
which they unpickle, or a model of the network. So only components are allowed that are known to
load nothing, and of their options only words and numbers.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.resolve import NEEDED, leaves

# Of espnet2/tasks/asr.py and `espnet_objsoup.tasks.components`. None is in all of them.
COMPONENTS: dict[str, frozenset[str]] = {
    "frontend": frozenset({"default", "sliding_window"}),
    "specaug": frozenset({"specaug"}),
    "normalize": frozenset({"global_mvn", "utterance_mvn"}),
    "preencoder": frozenset({"sinc", "linear"}),
    "encoder": frozenset({
        "branchformer", "conformer", "contextual_block_conformer", "contextual_block_transformer",
        "e_branchformer", "multiconv_conformer", "rnn", "transformer", "vgg_rnn",
    }),
    "asr_decoder": frozenset({"dynamic_conv", "lightweight_conv", "rnn", "transformer"}),
    "st_decoder": frozenset({"dynamic_conv", "lightweight_conv", "rnn", "transformer"}),
    "ssl": frozenset({"best_rq", "cpc"}),
    "preprocessor": frozenset({"objsoup"}),
}  # fmt: skip
# Names of options that files or models are given to.
_NAMES_A_MODEL = re.compile(
    r"(^|_)(model|models|path|paths|url|urls|ckpt|checkpoint|upstream|pretrained|download|file"
    r"|files|dir|scp|repo|hub)(_|$)"
)
_WORD = re.compile(r"[\w.+,()=-]{0,100}", re.ASCII)
# Far above what a model has; products of two are checked against the weights when it is built.
_MAX_NUMBER = 1_000_000
# Filters of the front end are computed before that: windows and bands.
_MAX_FILTER = 1 << 28
_NO_MODEL = "no model needs that: the configuration is damaged, or made to do harm"
_SKIPPED = {"token_list", "objectives"}


def check_self_contained(conf: Mapping[str, Any], where: Path, advice: str) -> None:
    """Refuse a configuration that needs anything but the model's own files.

    Args:
        conf: the part that a model is built from (`for_model`).
        where: its file, for messages.
        advice: what to do about it.

    Raises:
        ModelError: naming the option.
    """
    for key, allowed in COMPONENTS.items():
        name = conf.get(key)
        if name is not None and not (isinstance(name, str) and name in allowed):
            raise ModelError(
                f"{where}: {key}: expected a component that needs no other files "
                f"({', '.join(sorted(allowed))}), found {str(name)[:80]!r}; {advice}"
            )
    if conf.get("use_adapter"):
        raise ModelError(
            f"{where}: use_adapter: expected false, found {str(conf['use_adapter'])[:80]!r}: "
            f"adapters are made for other models; {advice}"
        )
    for key, value in _options(conf):
        reason = "" if key in NEEDED else _fault(key, value)
        if reason:
            remedy = advice if isinstance(value, str) else _NO_MODEL
            raise ModelError(f"{where}: {key}: {reason}, found {str(value)[:80]!r}; {remedy}")
    _check_filters(conf, where)


def _options(conf: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Options and their dotted names; those of the token list are no options."""
    for key, value in conf.items():
        if key not in _SKIPPED or isinstance(value, str):
            yield from leaves(value, key)


def _fault(key: str, value: Any) -> str:
    """What is wrong with an option, empty if nothing."""
    if isinstance(value, str):
        if not _WORD.fullmatch(value) or ".." in value:
            return "expected a word or a number, no file and no address"
        if _NAMES_A_MODEL.search(key.rpartition(".")[2].lower()):
            return f"expected a model without other files than {', '.join(NEEDED)}"
    elif isinstance(value, int | float):
        if not abs(value) <= _MAX_NUMBER:  # nor NaN
            return f"expected a number up to {_MAX_NUMBER}"
    elif value is not None:
        return "expected a word or a number"
    return ""


def _check_filters(conf: Mapping[str, Any], where: Path) -> None:
    front = conf.get("frontend_conf")
    if not isinstance(front, Mapping):
        return
    sizes = [front.get(name) for name in ("n_fft", "n_mels")]
    product = math.prod(size for size in sizes if isinstance(size, int))
    if product > _MAX_FILTER:
        raise ModelError(
            f"{where}: frontend_conf: expected n_fft x n_mels up to {_MAX_FILTER}, found "
            f"{product}; {_NO_MODEL}"
        )
