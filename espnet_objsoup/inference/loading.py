# SPDX-License-Identifier: Apache-2.0
"""A trained model from its configuration and weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from espnet2.text.abs_tokenizer import AbsTokenizer
from torch import Tensor

from espnet_objsoup.bin.input_checks import model_sample_rate
from espnet_objsoup.decoding.options import InferenceError, read_train_config
from espnet_objsoup.inference.building import build_model, check_shapes
from espnet_objsoup.inference.lengths import TrainedLength, trained_length
from espnet_objsoup.models.objsoup_model import ESPnetObjSoupModel
from espnet_objsoup.train.tokenizer import make_tokenizer

DTYPES = ("float32", "float64", "float16", "bfloat16")
_DEFAULT_RATE_HZ = 16000  # of ESPnet's frontends


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for inference.

    Attributes:
        model: in evaluation mode on `device`; the encoder has `dtype`, all else `full_dtype`.
        tokenizer, token_type: of its token list; the type is `bpe`, `char` or `word`.
        sample_rate_hz: of the speech it was trained on.
        trained_length: of its training utterances, if that is known.
    """

    model: ESPnetObjSoupModel
    tokenizer: AbsTokenizer
    token_type: str
    device: torch.device
    dtype: torch.dtype
    full_dtype: torch.dtype
    sample_rate_hz: int
    trained_length: TrainedLength | None = None


def load_model(train_config: Path, model_file: Path, device: str, dtype: str) -> LoadedModel:
    """Build a model and load its weights.

    Raises:
        InferenceError: if a file is missing or damaged, weights and configuration do not belong
            together, or device and dtype are not to be had.
    """
    if dtype not in DTYPES:
        raise InferenceError(f"dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}")
    torch_device = find_device(device)
    conf = read_train_config(train_config)
    _check_files_of(conf, train_config)
    rate, length = _sample_rate(conf, train_config), trained_length(conf)
    state = _read_weights(model_file)
    model, args = build_model(train_config, state, model_file)
    check_shapes(model, state, train_config, model_file)
    model.load_state_dict(state)
    torch_dtype = getattr(torch, dtype)
    model.to(torch_device, torch_dtype).eval()
    # Half precision is for the encoder, which does most of the work: there is no spectrum in it,
    # and the sums of log-probabilities in a search would overflow.
    full_dtype = torch.promote_types(torch_dtype, torch.float32)
    for module in (model.frontend, *model.heads.values()):
        if module is not None:
            module.to(full_dtype)
    return LoadedModel(
        model,
        _tokenizer(args.token_type, args.bpemodel, train_config),
        args.token_type,
        torch_device,
        torch_dtype,
        full_dtype,
        rate,
        length,
    )


def find_device(name: str) -> torch.device:
    """A device by its name.

    Raises:
        InferenceError: if there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as err:
        reason = " ".join(str(err).split())[:120]
        raise InferenceError(
            f"device: expected one that this torch can use, found {name!r} ({reason}); "
            "device='cpu' is always there"
        ) from err
    return device


def _tokenizer(token_type: str, bpemodel: str | None, train_config: Path) -> AbsTokenizer:
    try:
        return make_tokenizer(token_type, bpemodel)
    except (ValueError, OSError, RuntimeError, TypeError) as err:
        raise InferenceError(
            f"{train_config}: token_type {token_type}: expected a tokenizer, found none that can "
            f"be made with bpemodel {bpemodel} ({' '.join(str(err).split())[:120]}); copy the file "
            "again (stage 5 makes it)"
        ) from err


def _sample_rate(conf: Mapping[str, Any], train_config: Path) -> int:
    """Rate in Hz, of the front end: ESPnet's default one does not keep it.

    Raises:
        InferenceError: for what is no rate.
    """
    try:
        rate = model_sample_rate(conf)
    except ValueError as err:
        raise InferenceError(f"{train_config}: {err}") from err
    return _DEFAULT_RATE_HZ if rate is None else rate


def _check_files_of(conf: dict[str, Any], train_config: Path) -> None:
    """Files beside the weights; a configuration of stage 11 has paths relative to the recipe."""
    normalize = conf.get("normalize_conf")
    statistics = normalize.get("stats_file") if isinstance(normalize, Mapping) else None
    for key, name in (
        ("bpemodel", conf.get("bpemodel")),
        ("normalize_conf.stats_file", statistics),
    ):
        if isinstance(name, str) and not Path(name).is_file():
            raise InferenceError(
                f"{train_config}: {key}: expected a file, found none at {Path(name).absolute()}; "
                "work in the recipe's directory, or load the experiment by "
                "Speech2Text.from_pretrained, which finds its files from anywhere"
            )


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Weights of a file.

    Raises:
        InferenceError: if there is none, or it holds anything else.
    """
    if not path.is_file():
        raise InferenceError(f"{path}: expected weights, found no file; train first (stage 11)")
    try:
        # Not by ESPnet's loader: it asks, or an environment variable, whether to run the pickle.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # what is damaged may raise anything
        raise InferenceError(
            f"{path}: expected weights that torch can read, found a damaged or foreign file "
            f"({' '.join(str(err).split())[:120]}); copy it again, or average again (stage 11)"
        ) from err
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        found = f"keys {', '.join(map(str, state))}" if isinstance(state, dict) else type(state)
        raise InferenceError(
            f"{path}: expected the weights of a model, found {found}; a checkpoint of training is "
            "not decoded: choose a file such as valid.loss.ave.pth"
        )
    return state
