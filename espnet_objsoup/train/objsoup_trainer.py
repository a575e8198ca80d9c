# SPDX-License-Identifier: Apache-2.0
"""`trainer: objsoup`: the objectives of a model, combined by a recipe."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from espnet2.schedulers.abs_scheduler import AbsScheduler
from espnet2.train.trainer import TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass
from torch import Tensor, nn

from espnet_objsoup.train.abs_trainer import AbsTrainer, EpochContext
from espnet_objsoup.train.options import SoupConf, SoupTrainerOptions
from espnet_objsoup.train.state import SoupState, StateCarrier


class ObjSoupTrainer(AbsTrainer):
    """Trains on the objectives that a model reports one by one.

    The model's output holds, besides ESPnet's `loss`, `stats` and `weight`, two dicts in a fixed
    order: `losses`, objective -> mean loss over its utterances (0 if absent), and `counts`,
    objective -> number of these utterances.

    Recipe `static`: sum over objectives of weight * (sum of its utterances' losses) / (their
    expected number in a step). Dividing by the number that happens to be present would multiply
    an objective's weight by the probability of its being present. A model with
    `loss_mode: espnet` keeps ESPnet's normalisation by the batch size.
    """

    def __init__(
        self,
        recipe: str = "static",
        weighting: str = "static",
        weighting_conf: Mapping[str, Any] = {},
    ) -> None:
        """Never called: ESPnet's `--print_config` reads the defaults of `trainer_conf` here."""
        raise RuntimeError("trainers are used as classes, as in ESPnet")

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> SoupTrainerOptions:
        """ESPnet's options and the checked `trainer_conf`.

        Raises:
            TrainerConfError: naming the key that is wrong.
        """
        base = build_dataclass(TrainerOptions, args)
        return SoupTrainerOptions(**vars(base), soup=SoupConf.from_dict(args.trainer_conf))

    @classmethod
    def run(
        cls,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        schedulers: Sequence[AbsScheduler | None],
        trainer_options: SoupTrainerOptions,
        **kwargs: Any,
    ) -> None:
        """Train; the soup's state is saved and restored with ESPnet's checkpoints.

        Raises:
            TrainerConfError, ObjectiveError: if the options do not fit the model's objectives.
            SoupStateError: if the checkpoint to resume from has other objectives.
        """
        weights = trainer_options.soup.resolve(model.objectives)
        _log_table(trainer_options.soup, weights)
        trainer_options.state = SoupState(model.objectives)
        expected = getattr(kwargs["train_iter_factory"], "expected_counts", {})
        trainer_options.state.know(expected, trainer_options.accum_grad)
        super().run(
            model=model,
            optimizers=[*optimizers, StateCarrier(trainer_options.state)],
            schedulers=[*schedulers, None],
            trainer_options=trainer_options,
            **kwargs,
        )

    @staticmethod
    def resume(checkpoint: Any, optimizers: Sequence[torch.optim.Optimizer], **kwargs: Any) -> None:
        """ESPnet's resume; says so if the checkpoint holds no state of a soup."""
        AbsTrainer.resume(checkpoint=checkpoint, optimizers=optimizers, **kwargs)
        carrier = optimizers[-1]
        if not carrier.restored:
            logging.warning(
                "%s was written without trainer: objsoup; the soup's state starts afresh",
                checkpoint,
            )

    @classmethod
    def begin_epoch(cls, context: EpochContext) -> None:
        """Drop what the epoch before left of an accumulation.

        ESPnet's trainer adds it to the next step, unless training was interrupted in between: a
        checkpoint holds no gradients. Resumed training could then not equal uninterrupted training.
        """
        for optimizer in context.optimizers:
            optimizer.zero_grad()
        context.options.state.drop_pending()

    @classmethod
    def objective(
        cls, context: EpochContext, output: dict[str, Any], batch: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Weighted sum of the objectives, reported as `loss_soup`."""
        counts = torch.stack(list(output["counts"].values()))
        sums = torch.stack(list(output["losses"].values())) * counts
        resolved = context.options.soup.resolve(list(output["losses"]))
        weights = sums.new_tensor(list(resolved.values()))
        reduced = counts.clone()
        if context.distributed:
            torch.distributed.all_reduce(reduced)
        state = context.options.state
        if getattr(context.module, "loss_mode", "token") == "espnet":
            state.add(reduced)
            loss = (weights * sums).sum().reshape(1) / output["weight"].sum()
            stats = {**output["stats"], "loss_soup": loss.detach()}
            return cls.average(context, loss, stats, output["weight"])
        divisor = state.divisor(reduced, context.options.accum_grad).to(sums)
        state.add(reduced)
        loss = (weights * sums / divisor).sum()
        _, stats, weight = cls.average(context, loss, output["stats"], output["weight"])
        # The divisor counts all ranks and micro-batches: sums over them are what is wanted.
        reported = loss.detach() * context.options.accum_grad
        world_size = 1
        if context.distributed:
            world_size = torch.distributed.get_world_size()
            torch.distributed.all_reduce(reported)
        return loss * world_size, {**stats, "loss_soup": reported}, weight

    @classmethod
    def end_step(cls, context: EpochContext) -> None:
        """Fold the step's counts into the expected ones."""
        context.options.state.end_step()


def _log_table(conf: SoupConf, weights: Mapping[str, float]) -> None:
    width = max(len(name) for name in weights)
    rows = "\n".join(f"  {name:<{width}}  {weight:g}" for name, weight in weights.items())
    logging.info("Recipe %s, weights of the objectives:\n%s", conf.recipe, rows)
