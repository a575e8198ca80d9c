# SPDX-License-Identifier: Apache-2.0
"""Models of epochs, the links to the best of them, and their averages."""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet2.main_funcs.average_nbest_models import average_nbest_models
from espnet2.train.reporter import Reporter
from espnet2.train.trainer import TrainerOptions

from espnet_objsoup.train.checkpoint_files import (
    AVERAGING_DIR,
    CheckpointWriteError,
    replace_link,
    save,
    sync_directory,
)


class EpochFiles:
    """ESPnet's `<n>epoch.pth`, `latest.pth`, `*.best.pth` and `*.ave*.pth`; never half of one.

    During training the models that the checkpoint before needs are kept, too: after a fall back to
    it they are there to be averaged.

    Args:
        options: of the training.
    """

    def __init__(self, options: TrainerOptions) -> None:
        self.directory = Path(options.output_dir)
        self.criteria: Sequence[Sequence[str]] = options.best_model_criterion
        nbest = options.keep_nbest_models
        if not isinstance(nbest, int) and len(nbest) == 0:
            logging.warning("No keep_nbest_models is given. Change to [1]")
            nbest = [1]
        self.nbest = [nbest] if isinstance(nbest, int) else list(nbest)
        self.interval = options.nbest_averaging_interval

    def model(self, epoch: int) -> Path:
        """The file of an epoch's model."""
        return self.directory / f"{epoch}epoch.pth"

    def save_model(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Save an epoch's model.

        Raises:
            CheckpointWriteError: if the disk does not take it.
        """
        save(self.model(epoch), state)

    def publish(self, reporter: Reporter) -> None:
        """Links, averages and removal of old models, after the reporter's last epoch.

        May be done again: a training that resumes does so, for one that was killed before.

        Raises:
            CheckpointWriteError: if the disk does not take an average.
        """
        epoch = reporter.get_epoch()
        replace_link(self.directory / "latest.pth", f"{epoch}epoch.pth")
        improved = []
        for phase, key, mode in self.criteria:
            # The links stay right where another epoch is the best: the same is written again.
            if reporter.has(phase, key):
                best = reporter.get_best_epoch(phase, key, mode)
                replace_link(self.directory / f"{phase}.{key}.best.pth", f"{best}epoch.pth")
                if best == epoch:
                    improved.append(f"{phase}.{key}")
        if improved:
            logging.info("The best model has been updated: %s", ", ".join(improved))
        else:
            logging.info("There are no improvements in this epoch")
        if self.interval > 0 and epoch % self.interval == 0:
            self.average(reporter, suffix=f"till{epoch}epoch")
        self.remove_old(reporter, margin=1)

    def remove_old(self, reporter: Reporter, margin: int = 0) -> None:
        """Remove models that are neither the last nor among the best.

        Args:
            reporter: with the means of all epochs.
            margin: as many epochs earlier they would not have been removed either.
        """
        last = reporter.get_epoch()
        kept = set(range(last - margin, last + 1))
        for epoch in range(last - margin, last + 1):
            kept |= self._best(reporter, epoch)
        removed = [self.model(e) for e in range(1, last) if e not in kept]
        removed = [path for path in removed if path.exists()]
        for path in removed:
            path.unlink()
        if removed:
            logging.info("The model files were removed: %s", ", ".join(map(str, removed)))

    def _best(self, reporter: Reporter, epoch: int) -> set[int]:
        """The best epochs as they were after `epoch`."""
        then = Reporter(max(epoch, 0))
        then.stats = {e: means for e, means in reporter.stats.items() if e <= epoch}
        found: set[int] = set()
        for phase, key, mode in self.criteria:
            if then.has(phase, key):
                found |= set(then.sort_epochs(phase, key, mode)[: max(self.nbest)])
        return found

    def average(self, reporter: Reporter, suffix: str | None = None) -> None:
        """ESPnet's averages of the best models, all at once or none.

        Raises:
            CheckpointWriteError: if the disk does not take them.
            FileNotFoundError: if a model to be averaged is missing.
        """
        epochs = self._best(reporter, reporter.get_epoch())
        for epoch in sorted(epochs):
            if not self.model(epoch).exists():
                raise FileNotFoundError(
                    f"{self.model(epoch)}: not found; it is one of the best models, which are "
                    "averaged. Bring it back, or remove checkpoint*.pth and train again"
                )
        work = self.directory / AVERAGING_DIR
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            for epoch in epochs:
                (work / f"{epoch}epoch.pth").symlink_to(Path("..") / f"{epoch}epoch.pth")
            self._average_in(work, reporter, suffix)
            for epoch in epochs:
                (work / f"{epoch}epoch.pth").unlink()
            # Files before the links to them.
            for path in sorted(work.iterdir(), key=lambda path: (path.is_symlink(), path.name)):
                _sync(path)
                os.replace(path, self.directory / path.name)
            sync_directory(self.directory)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _average_in(self, work: Path, reporter: Reporter, suffix: str | None) -> None:
        try:
            average_nbest_models(
                reporter=reporter,
                output_dir=work,
                best_model_criterion=self.criteria,
                nbest=self.nbest,
                suffix=suffix,
            )
        except RuntimeError as err:
            # torch.save does not say what was wrong with the disk.
            if "PytorchStreamWriter" not in str(err) and "inline_container" not in str(err):
                raise
            free = shutil.disk_usage(work).free
            raise CheckpointWriteError(
                None,
                f"the average of the best models could not be written ({err}); {free} bytes are "
                "free. Nothing is lost: make room and train again with --resume true, which does "
                "the rest",
                str(self.directory),
            ) from err


def _sync(path: Path) -> None:
    if not path.is_symlink():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
