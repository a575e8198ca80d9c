# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of an experiment: which there are, which is the newest that can be used.

`checkpoint.pth` is ESPnet's, after an epoch; `checkpoint.step.pth` is from inside of one. Before
the newest of them is overwritten it becomes `checkpoint.previous.pth`: the last two are kept.
"""

import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_objsoup.train.checkpoint_files import (
    DamagedCheckpointError,
    check_intact,
    keep_as,
    remove_leftovers,
    save,
)

EPOCH = "checkpoint.pth"
STEP = "checkpoint.step.pth"
PREVIOUS = "checkpoint.previous.pth"
# Of a training that was started again from nothing in the same directory.
ASIDE = "checkpoint.aside.pth"
NAMES = (EPOCH, STEP, PREVIOUS)
# Beside ESPnet's keys of a checkpoint: what it does not save.
KEY = "objsoup"


@dataclass(frozen=True)
class Found:
    """A checkpoint that can be used.

    Attributes:
        path: the file.
        epoch: last finished epoch, 0 if none.
        inside: state inside the epoch after it; None at its beginning.
        serial: number of the checkpoint, counted since training began; 0 for one of ESPnet's.
    """

    path: Path
    epoch: int
    inside: Mapping[str, Any] | None
    serial: int

    @property
    def iteration(self) -> int:
        """Micro-batches done in the epoch after the last finished one."""
        return 0 if self.inside is None else int(self.inside["iteration"])

    def __str__(self) -> str:
        """For messages."""
        where = f"after epoch {self.epoch}"
        if self.inside is not None:
            where = f"inside epoch {self.epoch + 1}, after batch {self.iteration}"
        return f"{self.path.name} ({where})"


class Checkpoints:
    """The checkpoints in a directory, of which one process writes and all read.

    Args:
        directory: of the experiment.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._newest: Path | None = None  # the one that training stands on
        self._serial = 0

    @property
    def exist(self) -> bool:
        """Whether there is any, usable or not."""
        return any((self.directory / name).exists() for name in NAMES)

    def clean(self) -> None:
        """Remove what a killed training left half-written."""
        removed = remove_leftovers(self.directory)
        if removed:
            names = ", ".join(path.name for path in removed)
            logging.info("removed what an interrupted training left half-written: %s", names)

    def find(self) -> Found | None:
        """The newest checkpoint that is intact; what is damaged is said aloud.

        Returns:
            None if there is no checkpoint at all.

        Raises:
            DamagedCheckpointError: if there are some, all of them damaged.
        """
        paths = [self.directory / name for name in NAMES]
        usable, damaged = [], []
        for path in paths:
            if not path.exists():
                continue
            try:
                usable.append(_read(path))
            except DamagedCheckpointError as err:
                damaged.append(str(err))
        if not usable:
            if damaged:
                raise DamagedCheckpointError(
                    f"{self.directory}: expected a checkpoint to resume from, found none intact: "
                    f"{'; '.join(damaged)}. Start again with --resume false, or with --init_param "
                    "from the <n>epoch.pth of an epoch before"
                )
            return None
        # Not by iteration: with another number of processes an epoch has other iterations.
        best = max(usable, key=lambda found: (found.epoch, found.serial))
        if damaged:
            logging.warning(
                "%s. Training goes on from %s: what came after it, if anything, is trained again",
                "; ".join(damaged),
                best,
            )
        self._newest, self._serial = best.path, best.serial
        return best

    def set_aside(self) -> None:
        """Give way to a training that starts from nothing."""
        if not self.exist:
            return
        if (self.directory / EPOCH).exists():
            (self.directory / EPOCH).replace(self.directory / ASIDE)
            logging.info("resume is false: %s of an earlier training is now %s", EPOCH, ASIDE)
        for name in (STEP, PREVIOUS):
            (self.directory / name).unlink(missing_ok=True)

    def save_epoch(self, state: Mapping[str, Any], keep_step: bool) -> None:
        """Save after an epoch.

        Args:
            state: ESPnet's checkpoint.
            keep_step: checkpoints are saved inside of epochs, too.

        Raises:
            CheckpointWriteError: if that fails; the checkpoints before are as they were.
        """
        before = self._newest
        self._save(EPOCH, state, None)
        if not keep_step and before is not None and before.name != STEP:
            (self.directory / STEP).unlink(missing_ok=True)  # older than those that are left

    def save_inside(self, state: Mapping[str, Any], inside: Mapping[str, Any]) -> None:
        """Save inside an epoch; `inside` has at least `iteration`. Raises as `save_epoch`."""
        self._save(STEP, state, dict(inside))

    def _save(self, name: str, state: Mapping[str, Any], inside: dict[str, Any] | None) -> None:
        target = self.directory / name
        if self._newest == target and target.exists():
            # Under both names until the new one takes its place.
            keep_as(target, self.directory / PREVIOUS)
        self._serial += 1
        save(target, {**state, KEY: {"serial": self._serial, "inside": inside}})
        self._newest = target


def _read(path: Path) -> Found:
    """Position of a checkpoint.

    Raises:
        DamagedCheckpointError: if it is not what was written.
    """
    import torch
    from espnet2.torch_utils.safe_torch_load import safe_torch_load
    from torch.utils._pytree import tree_map

    check_intact(path)
    # Mapped: of gigabytes of parameters nothing is read.
    try:
        state = safe_torch_load(path, map_location="cpu", mmap=True)
    except (RuntimeError, pickle.UnpicklingError, ValueError, LookupError, EOFError) as err:
        first = (str(err).splitlines() or [type(err).__name__])[0]
        raise DamagedCheckpointError(f"{path}: damaged ({first})") from err
    try:
        epoch, ours = int(state["reporter"]["epoch"]), state.get(KEY) or {}
    except (KeyError, TypeError, AttributeError) as err:
        raise DamagedCheckpointError(
            f"{path}: expected a checkpoint of a training, found another file (no {err})"
        ) from err
    inside = tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, ours.get("inside"))
    return Found(path, epoch, inside, int(ours.get("serial", 0)))
