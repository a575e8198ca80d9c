# SPDX-License-Identifier: Apache-2.0
"""ESPnet's training loop, opened into hooks; the loop over epochs is in `epochs`.

`espnet2.train.trainer.Trainer.train_one_epoch` (ESPnet 202611) does forward, backward, clipping,
update and logging in one function. AbsTrainer takes the same step in the same order, each part in
a method of its own; with none of them overridden the parameters after N steps are identical.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler, AbsScheduler
from espnet2.torch_utils.add_gradient_noise import add_gradient_noise
from espnet2.torch_utils.device_funcs import to_device
from espnet2.torch_utils.recursive_op import recursive_average
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import SubReporter
from espnet2.train.trainer import Trainer, TrainerOptions, autocast_args
from torch import Tensor, nn
from torch.amp import GradScaler, autocast

from espnet_objsoup.train.epochs import Epochs
from espnet_objsoup.train.faults import naming
from espnet_objsoup.train.options import TrainerConfError, check_espnet_options
from espnet_objsoup.train.progress import Progress
from espnet_objsoup.train.saved_model import check_adapter
from espnet_objsoup.train.state import StateCarrier
from espnet_objsoup.train.step_checkpoints import StepCheckpoints


@dataclass
class EpochContext:
    """What the hooks of one epoch work on.

    Attributes:
        model: the model, wrapped by DistributedDataParallel if `distributed`.
        optimizers, schedulers: those that update parameters, in pairs.
        iteration: number of the current micro-batch, from 1.
        all_steps_are_invalid: no step has updated the model yet.
        step_taken: whether the last optimiser step updated the model.
        output: of the current micro-batch, for `backward`.
        utterances: of the current micro-batch, for hooks that come after `objective`.
    """

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    schedulers: Sequence[AbsScheduler | None]
    scaler: GradScaler | None
    reporter: SubReporter
    options: TrainerOptions
    distributed: bool
    progress: Progress
    iteration: int = 0
    all_steps_are_invalid: bool = True
    step_taken: bool = False
    output: dict[str, Any] = field(default_factory=dict)
    utterances: Sequence[str] = ()
    step_started: float = field(default_factory=time.perf_counter)

    @property
    def module(self) -> nn.Module:
        """The model without its distributed wrapper."""
        return getattr(self.model, "module", self.model)

    @property
    def device(self) -> str:
        """Device that batches are moved to."""
        return "cuda" if self.options.ngpu > 0 else "cpu"

    @property
    def rank(self) -> int:
        """Number of this process."""
        return torch.distributed.get_rank() if self.distributed else 0

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return torch.distributed.get_world_size() if self.distributed else 1

    def least(self, value: int) -> int:
        """The least of the values that processes have; all of them have to ask."""
        if not self.distributed:
            return value
        least = torch.tensor(value, device=self.device)
        torch.distributed.all_reduce(least, torch.distributed.ReduceOp.MIN)
        return int(least)

    @property
    def ends_step(self) -> bool:
        """Whether the current micro-batch is the last one of an optimiser step."""
        return self.iteration % self.options.accum_grad == 0


class AbsTrainer(Trainer):
    """ESPnet's trainer with one method per part of a step.

    A subclass overrides what it changes: `begin_epoch` or `continue_epoch`, `forward` (a batch to
    the model's output), `objective` (that output to the scalar to differentiate), `backward`,
    `clip_gradients`, `update` or `reject_step`, `end_step`, `end_epoch`.
    """

    @classmethod
    def run(cls, model: nn.Module, trainer_options: TrainerOptions, **kwargs: Any) -> None:
        """Refuse what cannot be honoured, then run the loop over epochs.

        Raises:
            TrainerConfError: for an unsupported option, or several GPUs in one process.
            CheckpointWriteError, DamagedCheckpointError: for checkpoints, see `epochs`.
        """
        check_espnet_options(trainer_options)
        distributed_option = kwargs["distributed_option"]
        if distributed_option.ngpu > 1 and not distributed_option.distributed:
            raise TrainerConfError(
                f"ngpu: expected one process per GPU, found {distributed_option.ngpu} GPUs in one "
                "process (DataParallel); add --multiprocessing_distributed true"
            )
        check_adapter(trainer_options)
        Epochs(
            trainer=cls,
            model=model,
            options=trainer_options,
            interval=cls.checkpoint_interval_steps(trainer_options),
            **kwargs,
        ).run()

    @classmethod
    def checkpoint_interval_steps(cls, options: TrainerOptions) -> int:
        """Optimiser steps between checkpoints inside an epoch; 0: none."""
        return 0

    @classmethod
    def train_one_epoch(
        cls,
        model: nn.Module,
        iterator: Iterable[tuple[list[str], dict[str, Tensor]]],
        optimizers: Sequence[torch.optim.Optimizer],
        schedulers: Sequence[AbsScheduler | None],
        scaler: GradScaler | None,
        reporter: SubReporter,
        summary_writer: Any,
        options: TrainerOptions,
        distributed_option: DistributedOption,
        steps: StepCheckpoints | None = None,
    ) -> bool:
        """One epoch, or the rest of one if `steps` says so.

        Returns:
            True if no step updated the model, on which ESPnet stops training.
        """
        pairs = [
            (optimizer, scheduler)
            for optimizer, scheduler in zip(optimizers, schedulers, strict=True)
            if not isinstance(optimizer, StateCarrier)
        ]
        context = EpochContext(
            model=model,
            optimizers=[optimizer for optimizer, _ in pairs],
            schedulers=[scheduler for _, scheduler in pairs],
            scaler=scaler,
            reporter=reporter,
            options=options,
            distributed=distributed_option.distributed,
            progress=Progress.of(iterator, reporter.get_epoch(), options),
        )
        steps = steps or StepCheckpoints(0, None, lambda state: None)
        model.train()
        if steps.resumes:
            cls.continue_epoch(context)
        else:
            cls.begin_epoch(context)
        cls._loop(context, iterator, summary_writer, steps)
        cls.end_epoch(context)
        return context.all_steps_are_invalid

    @classmethod
    def begin_epoch(cls, context: EpochContext) -> None:
        """Called before the first batch of an epoch."""

    @classmethod
    def continue_epoch(cls, context: EpochContext) -> None:
        """Called in place of `begin_epoch` where a checkpoint inside the epoch was loaded."""

    @classmethod
    def end_epoch(cls, context: EpochContext) -> None:
        """Called after the last batch of an epoch."""

    @classmethod
    def _loop(
        cls,
        context: EpochContext,
        iterator: Iterable,
        summary_writer: Any,
        steps: StepCheckpoints,
    ) -> None:
        batches, done = steps.enter(context, iterator)
        # Ranks may have different numbers of batches: the first to finish stops the others.
        stop = torch.tensor(0, device=context.device)
        timed = context.reporter.measure_iter_time(batches, "iter_time")
        for context.iteration, (utterances, batch) in enumerate(timed, done + 1):
            if context.distributed:
                torch.distributed.all_reduce(stop)
                if stop > 0:
                    break
            batch = to_device({**batch, "utt_id": utterances}, context.device)
            if context.options.no_forward_run:
                context.all_steps_are_invalid = False
                continue
            with naming(utterances):
                cls.micro_batch(context, batch)
            context.reporter.next()
            cls.log(context, summary_writer)
            steps.after_batch(context)
        else:
            if context.distributed:
                stop.fill_(1)
                torch.distributed.all_reduce(stop)

    @classmethod
    def micro_batch(cls, context: EpochContext, batch: dict[str, Any]) -> None:
        """Forward, backward and, at the end of an accumulation, the update."""
        with (
            autocast("cuda", enabled=context.scaler is not None, **autocast_args),
            context.reporter.measure_time("forward_time"),
        ):
            output = cls.forward(context, batch)
            loss, stats, weight = cls.objective(context, output, batch)
        context.reporter.register(stats, weight)
        context.progress.add(stats, len(batch["utt_id"]))
        with context.reporter.measure_time("backward_time"):
            cls.backward(context, loss)
        context.output = {}  # with what is left of the graph
        if context.ends_step:
            cls.step(context)

    @classmethod
    def forward(cls, context: EpochContext, batch: dict[str, Any]) -> dict[str, Any]:
        """Run the model.

        Returns:
            A dict with `loss`, `stats` and `weight`, whichever form the model returns them in.

        Raises:
            TrainerConfError: if the model chooses an optimiser by `optim_idx`.
        """
        output = context.model(**batch)
        if not isinstance(output, dict):
            loss, stats, weight = output
            output = {"loss": loss, "stats": stats, "weight": weight}
        if output.get("optim_idx") is not None:
            raise TrainerConfError(
                "trainer: expected a model with one update per batch, found one that chooses an "
                "optimiser by optim_idx (a GAN); use ESPnet's own trainer (trainer: default)"
            )
        return output

    @classmethod
    def objective(
        cls, context: EpochContext, output: dict[str, Any], batch: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """The scalar to differentiate, the statistics to report and their weight."""
        return cls.average(context, output["loss"], output["stats"], output["weight"])

    @classmethod
    def average(
        cls,
        context: EpochContext,
        loss: Tensor,
        stats: dict[str, Tensor | None],
        weight: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """ESPnet's mean over ranks, by `weight`, and over the micro-batches of a step."""
        stats = {name: value for name, value in stats.items() if value is not None}
        if context.distributed:
            loss = (loss * weight.type(loss.dtype)).sum()
            stats, weight = recursive_average(stats, weight, True)
            # DistributedDataParallel divides gradients by the number of ranks: undone here.
            loss = loss / weight * torch.distributed.get_world_size()
        return loss / context.options.accum_grad, stats, weight

    @classmethod
    def backward(cls, context: EpochContext, loss: Tensor) -> None:
        """Accumulate gradients, scaled under AMP."""
        if context.scaler is not None:
            loss = context.scaler.scale(loss)
        loss.backward()

    @classmethod
    def step(cls, context: EpochContext) -> None:
        """Clip, update if the gradients are finite, clear."""
        grad_norm = cls.clip_gradients(context)
        context.step_taken = bool(torch.isfinite(grad_norm))
        if context.step_taken:
            clip = context.options.grad_clip
            context.reporter.register(
                {
                    "grad_norm": grad_norm,
                    "clip": grad_norm.new_tensor(100.0 if grad_norm > clip else 0.0),
                    "loss_scale": context.scaler.get_scale() if context.scaler else 1.0,
                }
            )
            context.progress.grad_norm = float(grad_norm)
            context.all_steps_are_invalid = False
            with context.reporter.measure_time("optim_step_time"):
                cls.update(context)
        else:
            cls.reject_step(context, grad_norm)
        for optimizer in context.optimizers:
            optimizer.zero_grad()
        cls.end_step(context)
        rates = {
            f"optim{i}_lr{j}": group["lr"]
            for i, optimizer in enumerate(context.optimizers)
            for j, group in enumerate(optimizer.param_groups)
            if "lr" in group
        }
        context.progress.learning_rate = next(iter(rates.values()), None)
        now = time.perf_counter()
        context.reporter.register({**rates, "train_time": now - context.step_started})
        context.step_started = now

    @classmethod
    def reject_step(cls, context: EpochContext, grad_norm: Tensor) -> None:
        """Called instead of `update` where the norm of the gradients is not finite."""
        logging.warning("The grad norm is %s. Skipping updating the model.", grad_norm)
        if context.scaler is not None:
            # The scaler wants its update after unscale_; it skips the optimiser by itself.
            for optimizer in context.optimizers:
                context.scaler.step(optimizer)
                context.scaler.update()

    @classmethod
    def clip_gradients(cls, context: EpochContext) -> Tensor:
        """Unscale, add noise, clip; returns the norm before clipping."""
        if context.scaler is not None:
            for optimizer in context.optimizers:
                context.scaler.unscale_(optimizer)
        if context.options.grad_noise:
            add_gradient_noise(
                context.model,
                context.reporter.get_total_count(),
                duration=100,
                eta=1.0,
                scale_factor=0.55,
            )
        return torch.nn.utils.clip_grad_norm_(
            context.model.parameters(),
            max_norm=context.options.grad_clip,
            norm_type=context.options.grad_clip_type,
        )

    @classmethod
    def update(cls, context: EpochContext) -> None:
        """Step the optimisers and the schedulers that go by steps."""
        for optimizer, scheduler in zip(context.optimizers, context.schedulers, strict=True):
            if context.scaler is not None:
                context.scaler.step(optimizer)
                context.scaler.update()
            else:
                optimizer.step()
            if isinstance(scheduler, AbsBatchStepScheduler):
                scheduler.step()

    @classmethod
    def end_step(cls, context: EpochContext) -> None:
        """Called after every optimiser step, also a skipped one."""

    @classmethod
    def log(cls, context: EpochContext, summary_writer: Any) -> None:
        """Every `log_interval` iterations: ESPnet's line, ours, and the writers."""
        interval = context.progress.log_interval
        if context.iteration % interval != 0:
            return
        logging.info(context.reporter.log_message(-interval))
        logging.info(context.progress.line(context.iteration))
        if summary_writer is not None:
            context.reporter.tensorboard_add_scalar(summary_writer, -interval)
        if context.options.use_wandb:
            context.reporter.wandb_log()
