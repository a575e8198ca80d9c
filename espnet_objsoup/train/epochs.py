# SPDX-License-Identifier: Apache-2.0
"""ESPnet's loop over epochs, in parts, with checkpoints that survive a kill at any instant.

`espnet2.train.trainer.Trainer.run` (ESPnet 202611) does the same in one function. What differs: the
order of writing (an epoch's model before the checkpoint that needs it, links and removal after it),
how files are written (`checkpoint_files`), and that an epoch can be entered in its middle.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import humanfriendly
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.schedulers.abs_scheduler import (
    AbsEpochStepScheduler,
    AbsScheduler,
    AbsValEpochStepScheduler,
)
from espnet2.torch_utils.set_all_random_seed import set_all_random_seed
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import Reporter
from espnet2.train.trainer import TrainerOptions
from torch import nn
from torch.amp import GradScaler

from espnet_objsoup.train.checkpoints import Checkpoints, Found
from espnet_objsoup.train.epoch_files import EpochFiles
from espnet_objsoup.train.parallel_model import wrap
from espnet_objsoup.train.process_group import check_same, done_by_first
from espnet_objsoup.train.saved_model import saved_parameters
from espnet_objsoup.train.step_checkpoints import StepCheckpoints

if TYPE_CHECKING:
    from espnet_objsoup.train.abs_trainer import AbsTrainer


@dataclass
class Epochs:
    """A training from its beginning, or its last checkpoint, to its end.

    Attributes:
        trainer: whose hooks take the steps.
        interval: steps between two checkpoints inside an epoch, 0: none.
        others: as ESPnet's `Trainer.run` gets them.
    """

    trainer: "type[AbsTrainer]"
    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    schedulers: Sequence[AbsScheduler | None]
    train_iter_factory: AbsIterFactory
    valid_iter_factory: AbsIterFactory
    plot_attention_iter_factory: AbsIterFactory | None
    options: TrainerOptions
    distributed_option: DistributedOption
    interval: int = 0
    reporter: Reporter = field(default_factory=Reporter)

    def __post_init__(self) -> None:
        """Prepare what a run keeps."""
        self.scaler = GradScaler() if self.options.use_amp else None
        self.checkpoints = Checkpoints(Path(self.options.output_dir))
        self.files = EpochFiles(self.options)
        self.writers: dict[str, Any] = {"train": None, "valid": None}

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return not self.distributed_option.distributed or self.distributed_option.dist_rank == 0

    def run(self) -> None:
        """Train.

        Raises:
            CheckpointWriteError: if a checkpoint could not be written.
            LostProcessError: if another process ended, or could not write one.
            DamagedCheckpointError: if there are checkpoints, but none that can be used.
        """
        if self.is_first:
            self.checkpoints.clean()
        found = self._resume()
        first = self._first_epoch()
        wrapped = wrap(self.model, self.options, self.distributed_option)
        self._first_does(lambda: self._begin_writing(found))
        steps = StepCheckpoints(
            self.interval, None if found is None else found.inside, self._save_inside
        )
        started = time.perf_counter()
        for epoch in range(first, self.options.max_epoch + 1):
            self._announce(epoch, first, started)
            if not self._epoch(epoch, wrapped, steps):
                break
        else:
            logging.info("The training was finished at %d epochs", self.options.max_epoch)
        self._first_does(self._finish)

    def _finish(self) -> None:
        self.files.average(self.reporter)
        self.files.remove_old(self.reporter)

    def _resume(self) -> Found | None:
        if not self.options.resume:
            if self.is_first:
                self.checkpoints.set_aside()
            return None
        found = self.checkpoints.find()
        if self.distributed_option.distributed:
            # One that goes on from an older state would train on in silence: DDP makes parameters
            # equal, not the optimiser's state.
            own = "no checkpoint" if found is None else f"{found}, number {found.serial}"
            check_same(own, "checkpoint to resume from")
        if found is not None:
            self.trainer.resume(
                checkpoint=found.path,
                model=self.model,
                optimizers=self.optimizers,
                schedulers=self.schedulers,
                reporter=self.reporter,
                scaler=self.scaler,
                ngpu=self.options.ngpu,
                strict=not self.options.use_adapter,
            )
            logging.info("training goes on from %s", found)
        return found

    def _first_does(self, work: Callable[[], None]) -> None:
        """Let the first process write; all of them end if it fails, and none waits for ever."""
        if self.distributed_option.distributed:
            done_by_first(work, self.is_first, "cuda" if self.options.ngpu > 0 else "cpu")
        else:
            work()

    def _begin_writing(self, found: Found | None) -> None:
        self._finish_publishing(found)
        self._open_writers(found)

    def _finish_publishing(self, found: Found | None) -> None:
        """What a killed training may have left undone after its checkpoint."""
        epoch = self.reporter.get_epoch()
        if epoch == 0:
            return
        if found.inside is None and not self.files.model(epoch).exists():
            self.files.save_model(epoch, saved_parameters(self.model, self.options))
        if self.files.model(epoch).exists():
            self.files.publish(self.reporter)

    def _first_epoch(self) -> int:
        first = self.reporter.get_epoch() + 1
        options = self.options
        if first == options.max_epoch + 1:
            logging.warning("The training has already reached at max_epoch: %d", first)
        elif (
            first > 1
            and options.patience is not None
            and self.reporter.has(*options.early_stopping_criterion[:2])
            and self._stops_early()
        ):
            return options.max_epoch + 1
        return first

    def _stops_early(self) -> bool:
        options = self.options
        return options.patience is not None and self.reporter.check_early_stopping(
            options.patience, *options.early_stopping_criterion
        )

    def _open_writers(self, found: Found | None) -> None:
        if not self.options.use_tensorboard:
            return
        from torch.utils.tensorboard import SummaryWriter

        for name in self.writers:
            directory = Path(self.options.output_dir) / "tensorboard" / name
            self.writers[name] = SummaryWriter(str(directory), purge_step=self._purge_step(found))

    def _purge_step(self, found: Found | None) -> int | None:
        """What was written after the checkpoint will be written again: TensorBoard hides it."""
        if found is None:
            return None
        if found.inside is not None:
            return int(found.inside["reporter"]["total_count"]) + 1
        means = self.reporter.stats.get(self.reporter.get_epoch(), {})
        return None if "train" not in means else int(means["train"]["total_count"]) + 1

    def _announce(self, epoch: int, first: int, started: float) -> None:
        to_go = ""
        if epoch != first:
            per_epoch = (time.perf_counter() - started) / (epoch - first)
            seconds = per_epoch * (self.options.max_epoch - epoch + 1)
            to_go = f". Estimated time to finish: {humanfriendly.format_timespan(seconds)}"
        logging.info("%d/%depoch started%s", epoch, self.options.max_epoch, to_go)

    def _epoch(self, epoch: int, wrapped: nn.Module, steps: StepCheckpoints) -> bool:
        """One epoch; returns whether there is to be another."""
        set_all_random_seed(self.options.seed + epoch)
        self.reporter.set_epoch(epoch)
        nothing_updated = self._train(epoch, wrapped, steps)
        self._validate(epoch, wrapped)
        if self.is_first and self.plot_attention_iter_factory is not None:
            self._plot_attention(epoch)
        self._step_schedulers()
        self._first_does(lambda: self._write(epoch))
        if nothing_updated:
            logging.warning(
                "The gradients at all steps are invalid in this epoch. Something seems wrong. "
                "This training was stopped at %depoch",
                epoch,
            )
            return False
        return not self._stops_early()

    def _train(self, epoch: int, wrapped: nn.Module, steps: StepCheckpoints) -> bool:
        torch.cuda.empty_cache()
        with self.reporter.observe("train") as sub_reporter:
            return self.trainer.train_one_epoch(
                model=wrapped,
                optimizers=self.optimizers,
                schedulers=self.schedulers,
                iterator=self.train_iter_factory.build_iter(epoch),
                reporter=sub_reporter,
                scaler=self.scaler,
                summary_writer=self.writers["train"],
                options=self.options,
                distributed_option=self.distributed_option,
                steps=steps,
            )

    def _validate(self, epoch: int, wrapped: nn.Module) -> None:
        torch.cuda.empty_cache()
        with self.reporter.observe("valid") as sub_reporter:
            self.trainer.validate_one_epoch(
                model=wrapped,
                iterator=self.valid_iter_factory.build_iter(epoch),
                reporter=sub_reporter,
                options=self.options,
                distributed_option=self.distributed_option,
            )
        torch.cuda.empty_cache()

    def _plot_attention(self, epoch: int) -> None:
        with self.reporter.observe("att_plot") as sub_reporter:
            self.trainer.plot_attention(
                model=self.model,
                output_dir=Path(self.options.output_dir) / "att_ws",
                summary_writer=self.writers["train"],
                iterator=self.plot_attention_iter_factory.build_iter(epoch),
                reporter=sub_reporter,
                options=self.options,
            )

    def _step_schedulers(self) -> None:
        for scheduler in self.schedulers:
            if isinstance(scheduler, AbsValEpochStepScheduler):
                scheduler.step(self.reporter.get_value(*self.options.val_scheduler_criterion))
            elif isinstance(scheduler, AbsEpochStepScheduler):
                scheduler.step()

    def _report(self) -> None:
        logging.info(self.reporter.log_message())
        if self.options.use_matplotlib:
            self.reporter.matplotlib_plot(Path(self.options.output_dir) / "images")
        if self.writers["train"] is not None:
            for name, writer in self.writers.items():
                self.reporter.tensorboard_add_scalar(writer, key1=name)
        if self.options.use_wandb:
            self.reporter.wandb_log()

    def _write(self, epoch: int) -> None:
        try:
            self._report()
        finally:  # a drawing that fails ends training, and costs no epoch
            self._save(epoch)

    def _save(self, epoch: int) -> None:
        state = self._state()
        self.files.save_model(epoch, state["model"])
        self.checkpoints.save_epoch(state, keep_step=self.interval > 0)
        self.files.publish(self.reporter)
        if self.options.use_wandb:
            self._log_model(epoch)

    def _state(self) -> dict[str, Any]:
        """ESPnet's checkpoint."""
        return {
            "model": saved_parameters(self.model, self.options),
            "reporter": self.reporter.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [s.state_dict() if s is not None else None for s in self.schedulers],
            "scaler": self.scaler.state_dict() if self.scaler is not None else None,
        }

    def _save_inside(self, inside: dict[str, Any]) -> None:
        def save() -> None:
            state = self._state()
            # The epoch is not over.
            state["reporter"]["epoch"] -= 1
            self.checkpoints.save_inside(state, inside)

        self._first_does(save)

    def _log_model(self, epoch: int) -> None:
        interval = self.options.wandb_model_log_interval
        if interval <= 0 or epoch % interval != 0:
            return
        import wandb

        criteria = [c for c in self.options.best_model_criterion if self.reporter.has(*c[:2])]
        improved = [
            f"{phase}.{key}"
            for phase, key, mode in criteria
            if self.reporter.get_best_epoch(phase, key, mode) == epoch
        ]
        artifact = wandb.Artifact(
            name=f"model_{wandb.run.id}", type="model", metadata={"improved": improved}
        )
        artifact.add_file(str(self.files.model(epoch)))
        wandb.log_artifact(artifact, aliases=[f"epoch-{epoch}", "best" if improved else ""])
