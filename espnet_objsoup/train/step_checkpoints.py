# SPDX-License-Identifier: Apache-2.0
"""Checkpoints inside an epoch: what ESPnet's lack, and how training goes on from it."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from espnet2.train.reporter import Average, SubReporter, WeightedAverage
from torch import distributed

from espnet_objsoup.train.batch_position import describe_batches, skip_batches
from espnet_objsoup.train.random_state import get_random_state, seed_all, set_random_state

if TYPE_CHECKING:
    from espnet_objsoup.train.abs_trainer import EpochContext


class StepCheckpoints:
    """Saves every `interval` steps, between two steps of an epoch, and enters an epoch there.

    Args:
        interval: optimiser steps, 0: never.
        inside: state to go on from in the first epoch of this run; None: from its beginning.
        save: writes a state, on the process that writes.
    """

    def __init__(
        self,
        interval: int,
        inside: Mapping[str, Any] | None,
        save: Callable[[dict[str, Any]], None],
    ) -> None:
        self.interval = interval
        self._inside = inside
        self._save = save
        self._batches: dict[str, int | None] | None = None

    @property
    def resumes(self) -> bool:
        """Whether the next epoch is entered in its middle."""
        return self._inside is not None

    def enter(self, context: "EpochContext", batches: Iterable) -> tuple[Iterable, int]:
        """Go to where the epoch was left.

        Args:
            context: at the beginning of the epoch; its statistics and flags are restored.
            batches: of the whole epoch.

        Returns:
            What is left of them, and how many are done.
        """
        self._batches = None
        if self.interval or self.resumes:
            self._batches = describe_batches(batches)
        if self._inside is None:
            return batches, 0
        inside, self._inside = self._inside, None
        same = self._is_same(context, inside)
        done = self._position(context, inside, same)
        left = iter(skip_batches(batches, done))
        load_statistics(context.reporter, inside["reporter"])
        context.all_steps_are_invalid = bool(inside["all_steps_are_invalid"])
        context.progress.first = done
        # Last of all: making an iterator draws a number.
        if same:
            set_random_state(inside["processes"][context.rank]["random"])
        else:
            seed_all(context.options.seed, context.progress.epoch, done, context.rank)
        logging.info("the first %d batches of the epoch are done", done)
        return left, done

    def _is_same(self, context: "EpochContext", inside: Mapping[str, Any]) -> bool:
        """Whether every process has the batches that it had."""
        processes = inside["processes"]
        same = len(processes) == context.world_size
        if same:
            same = dict(processes[context.rank]["batches"]) == self._batches
        return bool(context.least(int(same)))

    def _position(self, context: "EpochContext", inside: Mapping[str, Any], same: bool) -> int:
        """Batches to leave out, a multiple of `accum_grad`."""
        saved = done = int(inside["iteration"])
        if not same:
            before = inside["processes"][0]["batches"]["count"]
            now = context.progress.iterations
            if before and now:
                done = round(saved * now / before)
            logging.warning(
                "inside an epoch: the checkpoint is of %d processes and %s batches each, now there "
                "are %d with %s, or others than before. Parameters, optimisers, schedulers and the "
                "soup go on as they were; batches cannot: the epoch goes on at the same share of "
                "its batches (%d instead of %d), so that some utterances come twice and some not "
                "at all in this epoch, and random numbers are drawn anew",
                *(len(inside["processes"]), before, context.world_size, now, done, saved),
            )
        rest = done % context.options.accum_grad
        if rest and same:
            logging.warning(
                "accum_grad is %d now: the epoch goes on at the step's beginning, %d batches "
                "earlier",
                *(context.options.accum_grad, rest),
            )
        return done - rest

    def after_batch(self, context: "EpochContext") -> None:
        """Save if it is time; every process calls it after every micro-batch.

        Raises:
            CheckpointWriteError: if the disk does not take it.
        """
        if not self.interval or not context.ends_step:
            return
        if context.iteration // context.options.accum_grad % self.interval != 0:
            return
        own = {
            "random": get_random_state(cuda=context.device == "cuda"),
            "batches": self._batches,
        }
        processes = [own]
        if context.distributed:
            processes = [None] * context.world_size
            distributed.all_gather_object(processes, own)
        self._save(
            {
                "iteration": context.iteration,
                "processes": processes,
                "reporter": statistics_of(context.reporter),
                "all_steps_are_invalid": context.all_steps_are_invalid,
            }
        )


def statistics_of(reporter: SubReporter) -> dict[str, Any]:
    """An epoch's statistics so far, as tensors: name -> (2, iterations) values and weights.

    Means without weights have no second row.
    """
    values = {}
    for name, reported in reporter.stats.items():
        rows = [[float(x.value) for x in reported]]
        if isinstance(reported[0], WeightedAverage):
            rows.append([float(x.weight) for x in reported])
        values[name] = torch.tensor(rows, dtype=torch.float64)
    return {
        "values": values,
        "count": reporter.count,
        "total_count": reporter.total_count,
        "seconds": time.perf_counter() - reporter.start_time,
    }


def load_statistics(reporter: SubReporter, state: Mapping[str, Any]) -> None:
    """Go on from `statistics_of`."""
    reporter.count = int(state["count"])
    reporter.total_count = int(state["total_count"])
    reporter.start_time = time.perf_counter() - float(state["seconds"])
    reporter.stats.clear()
    for name, rows in state["values"].items():
        reporter.stats[name] = list(_reported(rows.tolist()))


def _reported(rows: list[list[float]]) -> Iterator[Average | WeightedAverage]:
    if len(rows) == 1:
        yield from (Average(value) for value in rows[0])
    else:
        yield from (WeightedAverage(*pair) for pair in zip(*rows, strict=True))
