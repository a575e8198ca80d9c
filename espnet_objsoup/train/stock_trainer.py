# SPDX-License-Identifier: Apache-2.0
"""`trainer: objsoup` for ESPnet's own ST, ASR and S2T models."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from espnet2.schedulers.abs_scheduler import AbsScheduler
from espnet2.train.abs_espnet_model import AbsESPnetModel
from torch import optim

from espnet_objsoup.models.stock import StockObjectives
from espnet_objsoup.models.stock_objectives import MT
from espnet_objsoup.train.abs_trainer import EpochContext
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from espnet_objsoup.train.options import (
    SoupConf,
    SoupTrainerOptions,
    TrainerConfError,
    check_trainer_conf,
)

# Recipes with a level of `ssl`, which no stock model has.
_WITH_SSL = ("constrained", "multilevel")


def check_stock_trainer_conf(trainer: str, conf: Mapping[str, Any] | None) -> None:
    """Check `trainer_conf` of a stock task before a model is built.

    Raises:
        ValueError: for a trainer or a key that does not exist, or a recipe without sense here.
    """
    check_trainer_conf(trainer, conf)
    recipe = (conf or {}).get("recipe")
    if recipe in _WITH_SSL:
        raise TrainerConfError(
            f"trainer_conf.recipe: expected static, flat or bilevel, found {recipe}, which has a "
            "level of ssl that ESPnet's own models lack; or write levels: out"
        )


def soup_of_model(soup: SoupConf, objectives: StockObjectives) -> SoupConf:
    """The soup, with the model's own weights where recipe static names none.

    Raises:
        TrainerConfError: if the recipe asks for gradients that an objective does not have.
    """
    if MT in objectives.objectives and (not soup.is_static or soup.monitor):
        raise TrainerConfError(
            "model_conf.mt_weight: expected 0.0, as mt/att reads text and has no gradient in the "
            "speech encoder that could be weighed; or use recipe static without monitor"
        )
    weighting_conf = soup.weighting_conf or {}
    if not soup.is_static or weighting_conf.get("weights"):
        return soup
    return replace(soup, weighting_conf={**weighting_conf, "weights": objectives.weights})


@dataclass
class StockTrainerOptions(SoupTrainerOptions):
    """Options and the instrumented model of a run."""

    objectives: StockObjectives | None = None


class StockSoupTrainer(ObjSoupTrainer):
    """ObjSoupTrainer on one of ESPnet's models, whose objectives are its own losses.

    Losses keep ESPnet's normalisation. Without options the loss is ESPnet's own weighted sum.
    """

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> StockTrainerOptions:
        """ESPnet's options and the checked `trainer_conf`.

        Raises:
            ValueError: naming the key that is wrong.
        """
        return StockTrainerOptions(**vars(super().build_options(args)))

    @classmethod
    def run(
        cls,
        model: AbsESPnetModel,
        optimizers: Sequence[optim.Optimizer],
        schedulers: Sequence[AbsScheduler | None],
        trainer_options: StockTrainerOptions,
        **kwargs: Any,
    ) -> None:
        """Train; the model is ESPnet's again afterwards.

        Raises:
            ValueError: if the model's options rule a soup out, or see ObjSoupTrainer.
        """
        objectives = StockObjectives(model)
        trainer_options.objectives = objectives
        trainer_options.soup = soup_of_model(trainer_options.soup, objectives)
        with objectives.installed():
            super().run(
                model=model,
                optimizers=optimizers,
                schedulers=schedulers,
                trainer_options=trainer_options,
                **kwargs,
            )

    @classmethod
    def forward(cls, context: EpochContext, batch: dict[str, Any]) -> dict[str, Any]:
        """Run the model; in a measured step also the heads' backward passes."""
        objectives = context.options.objectives
        objectives.measuring = bool(context.options.run.measured_layers())
        objectives.loss_scale = context.scaler.get_scale() if context.scaler else 1.0
        return super().forward(context, batch)
