# SPDX-License-Identifier: Apache-2.0
"""A trained model from its configuration and weights."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from espnet2.text.abs_tokenizer import AbsTokenizer
from espnet2.torch_utils.safe_torch_load import safe_torch_load
from torch import Tensor

from espnet_objsoup.bin.input_checks import model_sample_rate
from espnet_objsoup.decoding.options import InferenceError, read_train_config
from espnet_objsoup.inference.lengths import TrainedLength, trained_length
from espnet_objsoup.models.objsoup_model import ESPnetObjSoupModel
from espnet_objsoup.tasks.objsoup import ObjSoupTask
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
    state = _read_weights(model_file)
    model, args = ObjSoupTask.build_model_from_file(train_config, None, "cpu")
    _load_weights(model, state, f"{model_file}: expected the weights of {train_config}")
    torch_dtype = getattr(torch, dtype)
    model.to(torch_device, torch_dtype).eval()
    # Half precision is for the encoder, which does most of the work: there is no spectrum in it,
    # and the sums of log-probabilities in a search would overflow.
    full_dtype = torch.promote_types(torch_dtype, torch.float32)
    for module in (model.frontend, *model.heads.values()):
        if module is not None:
            module.to(full_dtype)
    tokenizer = make_tokenizer(args.token_type, args.bpemodel)
    # ESPnet's default frontend does not keep its rate.
    rate = model_sample_rate(conf) or _DEFAULT_RATE_HZ
    return LoadedModel(
        model,
        tokenizer,
        args.token_type,
        torch_device,
        torch_dtype,
        full_dtype,
        rate,
        trained_length(conf),
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


def _check_files_of(conf: dict[str, Any], train_config: Path) -> None:
    """Files beside the weights; a configuration of stage 11 has paths relative to the recipe."""
    normalize = conf.get("normalize_conf") or {}
    for key, name in (
        ("bpemodel", conf.get("bpemodel")),
        ("normalize_conf.stats_file", normalize.get("stats_file")),
    ):
        if name is not None and not Path(name).is_file():
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
        state = safe_torch_load(path, map_location="cpu")
    except (UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as err:
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


def _load_weights(model: torch.nn.Module, state: dict[str, Tensor], expected: str) -> None:
    """Load weights, all of them: ESPnet leaves a tensor that is missing random, in silence.

    Raises:
        InferenceError: listing how the weights differ from the model's.
    """
    own = model.state_dict()
    differences = {
        "missing": [name for name in own if name not in state],
        "unknown": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} for {tuple(tensor.shape)}"
            for name, tensor in own.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    found = [
        f"{len(names)} {kind} (such as {names[0]})" for kind, names in differences.items() if names
    ]
    if found:
        raise InferenceError(
            f"{expected}, found {' and '.join(found)}; take both files from one experiment"
        )
    model.load_state_dict(state)
