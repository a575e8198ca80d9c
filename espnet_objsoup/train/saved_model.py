# SPDX-License-Identifier: Apache-2.0
"""Which parameters of a model are saved: all, or with adapters those that were trained."""

from typing import Any

from espnet2.train.trainer import TrainerOptions
from torch import nn


def check_adapter(options: TrainerOptions) -> None:
    """Whether the library of the adapter is there.

    Raises:
        RuntimeError: if not.
    """
    if not options.use_adapter:
        return
    library = {"lora": "loralib", "houlsby": "s3prl"}.get(options.adapter)
    if library is None:
        return
    try:
        __import__(library)
    except ImportError as err:
        raise RuntimeError(
            f"adapter {options.adapter}: expected the Python package {library}, found none; "
            "install it"
        ) from err


def saved_parameters(model: nn.Module, options: TrainerOptions) -> dict[str, Any]:
    """Parameters and buffers that go into checkpoints, by ESPnet's `save_strategy`.

    Raises:
        ValueError: for an adapter that is not known.
    """
    state = model.state_dict()
    if not options.use_adapter or options.save_strategy == "all":
        return state
    if options.save_strategy == "adapter_only":
        if options.adapter == "lora":
            import loralib

            return loralib.lora_state_dict(model)
        if options.adapter == "houlsby":
            return {name: value for name, value in state.items() if "adapter" in name}
        raise ValueError(f"adapter: expected lora or houlsby, found {options.adapter}")
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    return {name: value for name, value in state.items() if name not in frozen}
