# SPDX-License-Identifier: Apache-2.0
"""A model from its configuration, which may be a stranger's.

It is built without memory first (torch's meta device) and compared with the weights: whoever writes
`linear_units: 2000000000` into a configuration gets an error and not half a terabyte.
"""

import argparse
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from espnet_objsoup.decoding.options import InferenceError
from espnet_objsoup.models.objsoup_model import ESPnetObjSoupModel
from espnet_objsoup.tasks.objsoup import ObjSoupTask

# Modules may register a parameter again, or replace it.
_SLACK_PARAMETERS = 1000
# Its sizes depend on what is measured with the encoder, which the meta device cannot do.
_SSL_HEAD = "ssl_head."


def build_model(
    train_config: Path, state: Mapping[str, Tensor], weights: Path
) -> tuple[ESPnetObjSoupModel, argparse.Namespace]:
    """Build a model that has the shapes of its weights.

    Args:
        train_config: configuration.
        state: weights that the model is to be given.
        weights: their file, for messages.

    Returns:
        The model, on the CPU, with weights of its initialisation; the configuration's options.

    Raises:
        InferenceError: if the configuration is no model's, or that of other weights.
    """
    try:
        with torch.device("meta"), _at_most(2 * len(state) + _SLACK_PARAMETERS):
            shapes, _ = ObjSoupTask.build_model_from_file(train_config, None, "meta")
    except Exception as err:  # whatever a component raises for options that it cannot have
        if not _is_of_meta(err):
            raise _cannot_be_built(train_config, err) from err
        # A component that copies weights of its own: it is built without this check.
    else:
        check_shapes(shapes, state, train_config, weights)
    try:
        return ObjSoupTask.build_model_from_file(train_config, None, "cpu")
    except Exception as err:
        raise _cannot_be_built(train_config, err) from err


def check_shapes(
    model: nn.Module, state: Mapping[str, Tensor], train_config: Path, weights: Path
) -> None:
    """See that weights are those of a model, all of them: ESPnet leaves missing ones random.

    Args:
        model: may be on the meta device.
        state, train_config, weights: as in `build_model`.

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
            if name in state and not _fits(name, tensor, state[name])
        ],
    }
    found = [
        f"{len(names)} {kind} (such as {names[0]})" for kind, names in differences.items() if names
    ]
    if found:
        raise InferenceError(
            f"{weights}: expected the weights of {train_config}, found {' and '.join(found)}; take "
            "both files from one experiment"
        )


def _fits(name: str, own: Tensor, weights: Tensor) -> bool:
    if own.is_meta and name.startswith(_SSL_HEAD):
        return own.numel() <= weights.numel()
    return own.shape == weights.shape


class _TooManyError(Exception):
    """A model with more parameters than weights."""


@contextmanager
def _at_most(count: int) -> Iterator[None]:
    """Let this thread register no more parameters than so many."""
    thread, found = threading.get_ident(), 0

    def registered(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal found
        if threading.get_ident() == thread:
            found += 1
            if found > count:
                raise _TooManyError(f"more than {count} parameters, far more than the weights have")

    handle = register_module_parameter_registration_hook(registered)
    try:
        yield
    finally:
        handle.remove()


def _is_of_meta(err: Exception) -> bool:
    return isinstance(err, RuntimeError) and "meta tensor" in str(err)


def _cannot_be_built(train_config: Path, err: Exception) -> InferenceError:
    reason = f"{type(err).__name__}: {' '.join(str(err).split())[:200]}"
    if isinstance(err, ImportError):
        remedy = "install the package that it needs"
    else:
        remedy = "the configuration is damaged, or of another version of ESPnet"
    return InferenceError(
        f"{train_config}: expected the configuration of a model that can be built here, found one "
        f"that cannot ({reason}); {remedy}"
    )
