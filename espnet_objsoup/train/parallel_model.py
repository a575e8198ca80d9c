# SPDX-License-Identifier: Apache-2.0
"""The model as several processes train it."""

import logging

import torch
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.trainer import TrainerOptions
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel


def wrap(model: nn.Module, options: TrainerOptions, distributed: DistributedOption) -> nn.Module:
    """The model in DistributedDataParallel, with ESPnet's options; in one process as it is."""
    if not distributed.distributed:
        return model
    # One process per GPU; without one, on the CPU.
    device = [torch.cuda.current_device()] if distributed.ngpu == 1 else None
    wrapped = DistributedDataParallel(
        model,
        device_ids=device,
        output_device=device[0] if device else None,
        find_unused_parameters=options.unused_parameters,
        gradient_as_bucket_view=options.gradient_as_bucket_view,
    )
    if options.ddp_comm_hook is not None:
        hook = getattr(default_hooks, options.ddp_comm_hook)
        wrapped.register_comm_hook(None, hook)
        logging.info("Registered DDP communication hook: %s", options.ddp_comm_hook)
    return wrapped
