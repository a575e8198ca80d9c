# SPDX-License-Identifier: Apache-2.0
"""Weights that anybody may load: plain tensors, checked by torch itself."""

import io
import pickle
from pathlib import Path
from typing import Any

from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.pickles import check_weights


def prepare_weights(path: Path, trust: bool = False) -> tuple[Path | bytes, int]:
    """Weights to pack.

    Args:
        path: averaged weights of an experiment.
        trust: read a file that `weights_only=True` refuses, which may run any program, and save its
            tensors again.

    Returns:
        The file, or the content that replaces it; and how many numbers it has.

    Raises:
        ModelError: if it cannot be read in this way, or is something else than weights.
    """
    import torch  # seconds

    if not path.is_file():
        raise ModelError(f"{path}: expected weights, found no file; train first (stage 11)")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved_again = _is_foreign(path)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as err:
        if not trust:
            reason = " ".join(str(err).split())[:160]
            raise ModelError(
                f"{path}: expected weights that torch.load(weights_only=True) reads, found others "
                f"({reason}). If you made them, --trust_weights true reads them as a pickle and "
                "saves the tensors again; else average again (stage 11)"
            ) from err
        state, saved_again = _load_trusted(path), True
    state = _tensors(state, path)
    count = sum(tensor.numel() for tensor in state.values())
    if not saved_again:
        return path, count
    content = io.BytesIO()
    torch.save({name: tensor.detach().cpu().clone() for name, tensor in state.items()}, content)
    return content.getvalue(), count


def _is_foreign(path: Path) -> bool:
    """Whether torch reads a file that strangers' readers refuse, such as one in an older format."""
    try:
        check_weights(path)
    except ModelError:
        return True
    return False


def _load_trusted(path: Path) -> Any:
    import torch

    try:
        # Only where --trust_weights true asks for it.
        return torch.load(path, map_location="cpu", weights_only=False)  # nosec B614  # see above
    except Exception as err:  # a pickle may raise anything
        raise ModelError(
            f"{path}: expected weights that torch can read, found a damaged or foreign file "
            f"({type(err).__name__}: {' '.join(str(err).split())[:120]}); average again (stage 11)"
        ) from err


def _tensors(state: Any, path: Path) -> dict[str, Any]:
    import numpy as np
    import torch

    if isinstance(state, dict) and state and all(isinstance(name, str) for name in state):
        found = {
            name: torch.as_tensor(value) if isinstance(value, np.ndarray | np.generic) else value
            for name, value in state.items()
        }
        if all(isinstance(value, torch.Tensor) for value in found.values()):
            return found
    keys = ", ".join(map(str, list(state)[:8])) if isinstance(state, dict) else type(state).__name__
    raise ModelError(
        f"{path}: expected the weights of a model, found {keys or 'none'}; a checkpoint of "
        "training is not packed: choose a file such as valid.loss.ave.pth"
    )
