# SPDX-License-Identifier: Apache-2.0
"""Options of the trainers as ESPnet passes them around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from espnet2.train.trainer import TrainerOptions

from espnet_objsoup.objectives import SoupConf, TrainerConfError, check_trainer_conf

if TYPE_CHECKING:
    from espnet_objsoup.train.soup_run import SoupRun

__all__ = [
    "SoupConf",
    "SoupTrainerOptions",
    "TrainerConfError",
    "check_espnet_options",
    "check_trainer_conf",
]

# ESPnet's options that change a step and that AbsTrainer does not carry out.
_REFUSED = {
    "create_graph_in_tensorboard": "set it to false",
    "sharded_ddp": "use plain distributed training",
}


@dataclass
class SoupTrainerOptions(TrainerOptions):
    """ESPnet's options and ours; the same object is passed to every epoch of a run."""

    soup: SoupConf | None = None
    run: SoupRun | None = None


def check_espnet_options(options: TrainerOptions) -> None:
    """Refuse options of ESPnet's trainer that would silently do nothing.

    Raises:
        TrainerConfError: naming the option and what to do.
    """
    for name, advice in _REFUSED.items():
        if getattr(options, name):
            raise TrainerConfError(f"{name}: trainer objsoup does not support it; {advice}")
    if options.accum_grad < 1:
        raise TrainerConfError(
            f"accum_grad: expected a whole number >= 1, found {options.accum_grad}"
        )
