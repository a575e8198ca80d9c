# SPDX-License-Identifier: Apache-2.0
"""A call of the comparison: data, runs, table, page."""

import argparse
import fcntl
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from espnet_objsoup.bin.cli import print_error
from espnet_objsoup.comparison.calibrate import Calibration
from espnet_objsoup.comparison.current import read_variants
from espnet_objsoup.comparison.plan import Arm, Comparison, Variant
from espnet_objsoup.comparison.process import Commands
from espnet_objsoup.comparison.recipe import Place
from espnet_objsoup.comparison.run import Run, describe, seeds_of, with_epochs
from espnet_objsoup.comparison.schedule import Job, run_all
from espnet_objsoup.comparison.table import render
from espnet_objsoup.comparison.tradeoff import FIGURE, can_be_drawn, tradeoff_svg
from espnet_objsoup.data.files import write_bytes


@dataclass
class Session:
    """What was asked for.

    Attributes:
        comparison, arms, variants, seeds: what is trained.
        args: the other options of the command.
        commands: starts all processes.
        failed: names of what failed.
    """

    comparison: Comparison
    arms: Sequence[Arm]
    variants: Sequence[Variant]
    seeds: Sequence[int]
    args: argparse.Namespace
    commands: Commands = field(default_factory=Commands)
    failed: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """Check the options.

        Raises:
            PlanError: naming what does not exist.
        """
        comparison = Comparison.read(args.comparison)
        arms = comparison.choose_arms(args.arms)
        variants = comparison.choose_variants(args.variants)
        session = cls(comparison, arms, variants, args.seeds, args)
        for variant in variants:
            for run in session._runs(session._place(variant)):
                _ = run.trainings  # errors of the configuration are found before the first run
        return session

    def main(self) -> int:
        """Do it; returns the exit status."""
        if self.args.dry_run:
            self._show()
            return 0
        if not self.args.table:
            for variant in self.variants:
                try:
                    self._do(self._place(variant))
                except (ValueError, OSError, RuntimeError) as err:
                    # Other variants have data of their own.
                    print_error(err)
                    self.failed.append(f"{variant.name} (as a whole)")
        self._write_table()
        if self.failed:
            print(f"failed: {', '.join(self.failed)}; the same command tries these again")
        return 1 if self.failed else 0

    def _place(self, variant: Variant) -> Place:
        return Place(variant, self.args.run, self.args.inference_config)

    def _runs(self, place: Place) -> list[Run]:
        """All runs of a variant, seed by seed, so that a table of one seed is there first."""
        return [
            Run(self.comparison, place, arm, seed, keep=self.args.keep)
            for seed in self.seeds
            for arm in self.arms
            if seed in seeds_of(arm, self.seeds)
        ]

    def _do(self, place: Place) -> None:
        with _alone(place.exp):
            print(f"{place.variant.name}: data and statistics", flush=True)
            self.commands.run(self._prepare(place), place.log("data"))
            data = place.fingerprint()
            runs = self._runs(place)
            if self.args.equal_cost:
                runs = self._calibrated(place, runs, data)
            wanted = []
            for run in runs:
                done, why_not = run.finished(self.args.results, data)
                if why_not:
                    print(why_not)
                if not done:
                    wanted.append(run)
            if runs:
                print(f"{runs[0].variant}: {len(runs) - len(wanted)} of {len(runs)} runs are there")
            jobs = [Job(run.tag, partial(self._perform, run, data)) for run in wanted]
            self.failed += run_all(jobs, self.args.jobs, self.commands, _say)
        if self.args.report:
            self._report(place, runs)

    def _prepare(self, place: Place) -> list[str]:
        return place.command(1, 10, "--nj", str(self.args.jobs))

    def _perform(self, run: Run, data: str, commands: Commands) -> str:
        result = run.perform(commands, data)
        result.save(self.args.results)
        run.clean()
        return f"{describe(result)}, {result.cpu_seconds / 60:.1f} minutes of the processor"

    def _calibrated(self, place: Place, runs: Sequence[Run], data: str) -> list[Run]:
        """The runs with as many epochs as cost what the reference costs."""
        calibration = Calibration(self.comparison, place, self.args.results, data)

        def measure(kind: str, commands: Commands) -> str:
            training = missing[kind]
            seconds = calibration.measure(kind, training, commands)
            calibration.keep(kind, training, seconds)
            return f"{seconds:.1f} s of the processor per epoch"

        missing = calibration.missing(self.arms)
        jobs = [Job(f"calibrate {kind}", partial(measure, kind)) for kind in missing]
        self.failed += run_all(jobs, self.args.jobs, self.commands, _say)
        unknown = calibration.missing(self.arms)
        return [
            with_epochs(run, calibration.epochs(run.arm))
            for run in runs
            if not unknown.keys() & calibration.kinds([run.arm]).keys()
        ]

    def _show(self) -> None:
        """Commands and lengths, in the order in which they would be run."""
        n_runs = n_epochs = 0
        for variant in self.variants:
            place = self._place(variant)
            print(shlex.join(self._prepare(place)))
            if self.args.equal_cost:
                print(f"# then a calibration of {variant.name}, which gives the numbers of epochs")
            for run in self._runs(place):
                n_runs += 1
                epochs = [training.epochs for training in run.trainings]
                n_epochs += sum(epochs)
                print(f"# {run.tag}: {' + '.join(map(str, epochs))} epochs, OMP_NUM_THREADS=1")
                for command in run.commands():
                    print(shlex.join(command))
        print(f"# {n_runs} runs, {n_epochs} epochs")

    def _write_table(self) -> None:
        decoding = self._place(next(iter(self.comparison.variants.values()))).decoding
        variants = list(read_variants(self.args.results, self.comparison, decoding))
        path = self.args.results / "RESULTS.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, render(variants, self.comparison).encode())
        for variant in variants:
            if can_be_drawn(variant.by_arm):
                figure = self.args.results / variant.name / FIGURE
                write_bytes(figure, tradeoff_svg(variant.by_arm))
        print(f"{path}: written")

    def _report(self, place: Place, runs: Sequence[Run]) -> None:
        """A page about the runs of the first seed; a table is there without it, too."""
        first = [run for run in runs if run.seed == self.seeds[0]]
        directories = [str(place.experiment(run.tag)) for run in first]
        there = [path for path in directories if (Path(path) / "train.log").exists()]
        if not there:
            return
        page = place.exp / f"report_{runs[0].variant}.html"
        command = [sys.executable, "-m", "espnet_objsoup.bin.report", *there]
        command += ["--output", str(page), "--figures", "none"]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        told = made.stdout if made.returncode == 0 else f"no page: {made.stderr}"
        print(told.strip().rpartition("\n")[2])


def _say(line: str) -> None:
    print(line, flush=True)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """No other comparison with the same experiments.

    Raises:
        RuntimeError: if there is one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".compare.lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RuntimeError(
                f"{directory}: expected no other comparison at work there, found one; wait for it"
            ) from None
        yield
