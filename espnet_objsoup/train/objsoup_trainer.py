# SPDX-License-Identifier: Apache-2.0
"""`trainer: objsoup`: the objectives of a model, combined by a soup."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from espnet2.schedulers.abs_scheduler import AbsScheduler
from espnet2.train.trainer import TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass
from torch import Tensor, nn

from espnet_objsoup.train.abs_trainer import AbsTrainer, EpochContext
from espnet_objsoup.train.checkpoints import Checkpoints
from espnet_objsoup.train.options import SoupConf, SoupTrainerOptions
from espnet_objsoup.train.soup_run import SoupRun
from espnet_objsoup.train.state import StateCarrier


class ObjSoupTrainer(AbsTrainer):
    """Trains on the objectives that a model reports one by one (`soup_run.SoupModel`).

    With recipe `static` the loss is the sum over objectives of weight * (sum of its utterances'
    losses) / (their expected number in a step); dividing by the number that happens to be present
    would multiply an objective's weight by the probability of its being present. A model with
    `loss_mode: espnet` keeps ESPnet's normalisation by the batch size.

    With every other soup the heads are trained on the mean of their objectives' losses, and the
    soup's coefficients act on gradients where the encoder ends, in one ordinary backward pass. A
    step uses the coefficients of the last finished refresh and measures for the next one.
    """

    def __init__(
        self,
        recipe: str | None = "static",
        order: str | None = None,
        levels: Sequence[Mapping[str, Any]] | None = None,
        weighting: str | None = None,
        weighting_conf: Mapping[str, Any] | None = None,
        penalty: str | None = None,
        penalty_conf: Mapping[str, Any] | None = None,
        gradient_engine: str = "grouped",
        estimate: str = "unbiased",
        weights_interval: int = 4,
        layers: Mapping[str, Any] | None = None,
        monitor: bool = False,
        reset_soup: bool = False,
        max_nonfinite_steps: int = 20,
        checkpoint_interval_steps: int = 0,
    ) -> None:
        """Never called: ESPnet's `--print_config` reads the defaults of `trainer_conf` here."""
        raise RuntimeError("trainers are used as classes, as in ESPnet")

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> SoupTrainerOptions:
        """ESPnet's options and the checked `trainer_conf`.

        Raises:
            ValueError: naming the key that is wrong.
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
            ValueError: if the options do not fit the model's objectives, or the checkpoint to
                resume from has others.
        """
        distributed = kwargs["distributed_option"]
        first = not distributed.distributed or distributed.dist_rank == 0
        directory = Path(trainer_options.output_dir) if first else None
        run = SoupRun(trainer_options.soup, model, trainer_options.seed, directory)
        expected = getattr(kwargs["train_iter_factory"], "expected_counts", {})
        run.counts.know(expected, trainer_options.accum_grad)
        checkpoints = Checkpoints(Path(trainer_options.output_dir))
        if not (trainer_options.resume and checkpoints.exist):
            run.log.start_afresh()
        logging.info("The soup, top level first:\n%s", run.describe())
        trainer_options.run = run
        super().run(
            model=model,
            optimizers=[*optimizers, StateCarrier(run)],
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
            carrier.content.log.start_afresh()
            logging.warning(
                "%s was written without trainer: objsoup; the soup's state starts afresh",
                checkpoint,
            )

    @classmethod
    def checkpoint_interval_steps(cls, options: SoupTrainerOptions) -> int:
        """`trainer_conf.checkpoint_interval_steps`."""
        return options.soup.checkpoint_interval_steps

    @classmethod
    def begin_epoch(cls, context: EpochContext) -> None:
        """Plan the epoch; drop what the epoch before left of an accumulation.

        ESPnet's trainer adds it to the next step, unless training was interrupted in between: a
        checkpoint holds no gradients. Resumed training could then not equal uninterrupted training.
        """
        for optimizer in context.optimizers:
            optimizer.zero_grad()
        context.options.run.begin_epoch(context.progress.epoch, _steps_of_epoch(context))

    @classmethod
    def continue_epoch(cls, context: EpochContext) -> None:
        """The soup stands where it stood, unless it was reset."""
        context.options.run.continue_epoch(context.progress.epoch, _steps_of_epoch(context))

    @classmethod
    def end_epoch(cls, context: EpochContext) -> None:
        """Finish the scan of layers."""
        context.options.run.end_epoch()

    @classmethod
    def forward(cls, context: EpochContext, batch: dict[str, Any]) -> dict[str, Any]:
        """Run the model; what measuring needs is recorded."""
        with context.options.run.recording():
            return super().forward(context, batch)

    @classmethod
    def objective(
        cls, context: EpochContext, output: dict[str, Any], batch: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """The scalar to differentiate; the weighted sum is reported as `loss_soup`."""
        run = context.options.run
        context.output, context.utterances = output, batch["utt_id"]
        counts = torch.stack(list(output["counts"].values()))
        sums = torch.stack(list(output["losses"].values())) * counts
        reduced = _sum_over_processes(
            context, torch.stack([sums.detach().double(), counts.double()])
        )
        cls._note_faults(context, reduced[0])
        reduced_counts = reduced[1].round().long()
        coefficients = run.soup.coefficients.to(sums)
        weights = run.loss_weights().to(sums)
        by_batch_size = getattr(context.module, "loss_mode", "token") == "espnet"
        if by_batch_size:
            divisor = output["weight"].sum().to(sums)
        else:
            divisor = run.counts.divisor(reduced_counts, context.options.accum_grad).to(sums)
        loss = (weights * sums / divisor).sum()
        run.add_losses(reduced[0], reduced_counts)
        soup_loss = (coefficients * sums.detach() / divisor).sum().reshape(1)
        if by_batch_size:
            stats = {**output["stats"], "loss_soup": soup_loss}
            return cls.average(context, loss.reshape(1), stats, output["weight"])
        _, stats, weight = cls.average(context, loss.reshape(1), output["stats"], output["weight"])
        # The divisor counts all ranks and micro-batches: sums over them are what is wanted.
        soup_loss = _sum_over_processes(context, soup_loss) * context.options.accum_grad
        return loss * context.world_size, {**stats, "loss_soup": soup_loss}, weight

    @classmethod
    def _note_faults(cls, context: EpochContext, sums: Tensor) -> None:
        """Remember objectives whose (K,) sum of losses over all processes is not finite."""
        run = context.options.run
        for k in (~torch.isfinite(sums)).nonzero()[:, 0].tolist():
            run.faults.note(run.objectives[k], cls._faulty_utterances(context, k))

    @staticmethod
    def _faulty_utterances(context: EpochContext, k: int) -> list[str]:
        """Utterances of this process whose loss of objective k is not finite; all if unknown."""
        names = list(context.utterances)
        if "utterance_losses" not in context.output:
            return names
        found = []
        for task, losses in context.output["utterance_losses"].items():
            wrong = ~torch.isfinite(losses.detach())
            rows = (wrong & (context.output["objective_index"][task] == k)).nonzero()[:, 0]
            found += [names[i] for i in rows.tolist()]
        return found

    @classmethod
    def backward(cls, context: EpochContext, loss: Tensor) -> None:
        """Measure gradients of objectives where the step asks for it, then accumulate."""
        run = context.options.run
        if run.faults.current:
            run.forgo()
            return  # on every process alike: the sums are those of all
        wrong, loss = run.measure(
            context.output,
            loss,
            scale=context.scaler.get_scale() if context.scaler else 1.0,
            device=context.device,
            distributed=context.distributed,
        )
        # In half precision an overflow is ordinary: the estimate is done without, not the step.
        if wrong and context.scaler is None:
            for name in wrong:
                run.faults.note(f"gramian {name}", context.utterances)
            return
        if run.conf.layers.scope == "selected" and run.measures and not run.conf.is_static:
            cls._backward_selected(context, loss)
            return
        with run.weighting():
            super().backward(context, loss)

    @classmethod
    def _backward_selected(cls, context: EpochContext, loss: Tensor) -> None:
        """The soup's direction for selected layers, the plain average for all others."""
        run = context.options.run
        scaled = loss if context.scaler is None else context.scaler.scale(loss)
        # All parameters of a selected layer, also those that are not measured.
        by_layer = [
            [p for p in run.layers[i].module.parameters() if p.requires_grad]
            for i in run.selector.selected
        ]
        parameters = [p for layer in by_layer for p in layer]
        totals = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
        if parameters:
            with run.weighting():
                weighted = torch.autograd.grad(
                    scaled, parameters, retain_graph=True, allow_unused=True
                )
            if context.distributed:
                weighted = _mean_by_layer(by_layer, weighted)
            for total, gradient in zip(totals, weighted, strict=True):
                if gradient is not None:
                    total += gradient
        with run.plain_average():
            scaled.backward()
        for parameter, total in zip(parameters, totals, strict=True):
            if parameter.grad is None:
                parameter.grad = total
            else:
                parameter.grad.copy_(total)  # it may be a view into a bucket

    @classmethod
    def clip_gradients(cls, context: EpochContext) -> Tensor:
        """ESPnet's clipping; NaN for a step that cannot be taken."""
        if context.options.run.faults.current:
            return torch.tensor(torch.nan)
        return super().clip_gradients(context)

    @classmethod
    def reject_step(cls, context: EpochContext, grad_norm: Tensor) -> None:
        """Name the cause where it is known."""
        run = context.options.run
        if not run.faults.current:
            super().reject_step(context, grad_norm)
            if context.scaler is None or context.scaler.get_scale() <= 1.0:
                run.faults.note("gradient", context.utterances)

    @classmethod
    def end_step(cls, context: EpochContext) -> None:
        """Refresh the weights, or forget a step that was not taken."""
        run = context.options.run
        if context.step_taken:
            run.end_step()
        elif run.faults.current:
            run.skip_step()
        else:
            run.drop_step()  # the scaler looks for its scale
        context.reporter.register(run.report())


def _steps_of_epoch(context: EpochContext) -> int | None:
    """Optimiser steps of the epoch, the same in every process; None if one does not know."""
    # The first process to finish ends the epoch for all, and scans are planned by its steps: with
    # plans of their own, processes would sum up different layers.
    iterations = context.progress.iterations
    shortest = context.least(-1 if iterations is None else iterations)
    return None if shortest < 0 else shortest // context.options.accum_grad


def _mean_by_layer(
    by_layer: Sequence[Sequence[Tensor]], gradients: Sequence[Tensor | None]
) -> list[Tensor]:
    """Mean over processes of gradients that DistributedDataParallel does not see.

    One collective per layer: of single parameters there would be some forty, mostly tiny.
    """
    waiting = iter(gradients)
    means = []
    for layer in by_layer:
        own = [next(waiting) for _ in layer]
        flat = torch.cat(
            [
                (torch.zeros_like(p) if gradient is None else gradient).flatten()
                for p, gradient in zip(layer, own, strict=True)
            ]
        )
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        pieces = flat.split([p.numel() for p in layer])
        means += [piece.view_as(p) for p, piece in zip(layer, pieces, strict=True)]
    return means


def _sum_over_processes(context: EpochContext, values: Tensor) -> Tensor:
    if context.distributed:
        values = values.clone()
        torch.distributed.all_reduce(values)
    return values
