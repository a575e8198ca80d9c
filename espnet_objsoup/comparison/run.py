# SPDX-License-Identifier: Apache-2.0
"""One run: its trainings, decoding and scores, through the recipe's own stages 11 to 13."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_objsoup.comparison.experiment import (
    conflicts_of,
    mean_last_loss,
    scores_of,
    updates_of,
    utterances_of,
    valid_losses,
)
from espnet_objsoup.comparison.fingerprint import config_fingerprint
from espnet_objsoup.comparison.plan import EQUAL_COST, Arm, Comparison
from espnet_objsoup.comparison.process import Commands, Usage
from espnet_objsoup.comparison.recipe import TEST_SET, Place
from espnet_objsoup.comparison.result import Result, load, path_of
from espnet_objsoup.comparison.trainings import Training, trainings_of, with_choice
from espnet_objsoup.evaluation.results import commit, machine


@dataclass(frozen=True)
class Run:
    """An arm with a seed in a variant.

    Attributes:
        comparison, place, arm, seed: what it is.
        epochs: of all its trainings together; None: as the variant says.
        equal_cost: whether it is one of those at equal cost.
        keep: whether checkpoints are kept.
    """

    comparison: Comparison
    place: Place
    arm: Arm
    seed: int
    epochs: int | None = None
    equal_cost: bool = False
    keep: bool = False

    @property
    def variant(self) -> str:
        """Name of the variant in results."""
        return self.place.variant.name + (EQUAL_COST if self.equal_cost else "")

    @property
    def tag(self) -> str:
        """Name of the experiment."""
        return f"{self.variant}_{self.arm.name}_seed{self.seed}"

    @property
    def trainings(self) -> list[Training]:
        """In order."""
        return trainings_of(self.comparison, self.place.variant, self.arm, self.seed, self.epochs)

    @property
    def config(self) -> str:
        """Fingerprint of the configurations."""
        return config_fingerprint(self.trainings, self.place.decoding)

    def tag_of(self, part: str) -> str:
        """Name of the experiment of one of the trainings."""
        return f"{self.tag}_{part}" if part else self.tag

    def commands(self) -> list[list[str]]:
        """Commands in order; where a choice has to be made, `?` stands for the best candidate."""
        trainings = self.trainings
        return [*map(self._train_command, trainings), self._decode_command(trainings[-1])]

    def finished(self, results: Path, data: str) -> tuple[bool, str]:
        """Whether there is a result already.

        Args:
            results: directory of results.
            data: fingerprint of the data.

        Returns:
            Whether it is there and of this configuration and data; and why not, if it is another.
        """
        path = path_of(results, self.variant, self.arm.name, self.seed)
        if not path.exists():
            return False, ""
        result = load(path)
        different = [
            name
            for name, wanted, found in (
                ("configuration", self.config, result.config),
                ("data", data, result.data),
            )
            if wanted != found
        ]
        if different:
            return False, f"{path} is of another {' and another '.join(different)}: it is replaced"
        return True, ""

    def perform(self, commands: Commands, data: str) -> Result:
        """Train, decode, score.

        Args:
            commands: starts the stages.
            data: fingerprint of the data.

        Raises:
            CommandError: if a stage fails.
            ExperimentError: if it leaves something else than expected.
        """
        begun_at = commit(Path(__file__).parent)
        trainings = self.trainings
        self.place.remove([self.tag_of(training.name) for training in trainings])
        used, updates, choice = Usage(), 0, ""
        losses: dict[str, float] = {}
        for training in trainings:
            if training.start == "?":
                best = min(losses, key=lambda name: losses[name])
                choice = best.removeprefix("try_")
                training = with_choice(self.comparison, training, choice)
            used += self._train(training, commands)
            directory = self.place.experiment(self.tag_of(training.name))
            updates += updates_of(directory)
            if training.is_candidate:
                losses[training.name] = mean_last_loss(valid_losses(directory))
        decoding = commands.run(self._decode_command(training), self.place.log(self.tag))
        ended_at = commit(Path(__file__).parent)
        code = begun_at if begun_at == ended_at else f"{begun_at} to {ended_at}"
        return self._result(data, code, used, decoding, updates, choice)

    def clean(self) -> None:
        """Remove the weights of a finished run, but those that were decoded."""
        if not self.keep:
            for training in self.trainings:
                self.place.clean(self.tag_of(training.name), keep_decoded=not training.name)

    def _result(
        self, data: str, code: str, training: Usage, decoding: Usage, updates: int, choice: str
    ) -> Result:
        directory = self.place.experiment(self.tag)
        scores = scores_of(directory, TEST_SET)
        return Result(
            variant=self.variant,
            arm=self.arm.name,
            seed=self.seed,
            config=self.config,
            data=data,
            commit=code,
            machine=machine(),
            scores=scores,
            utterances=utterances_of(self.place.decode_dir(self.tag), self.place.dump_test, scores),
            epochs=sum(part.epochs for part in self.trainings),
            updates=updates,
            cpu_seconds=round(training.cpu_seconds, 1),
            decode_cpu_seconds=round(decoding.cpu_seconds, 1),
            wall_seconds=round(training.wall_seconds + decoding.wall_seconds, 1),
            memory_mb=round(training.memory_mb),
            choice=choice,
            valid=valid_losses(directory),
            soup=conflicts_of(directory),
        )

    def _train(self, training: Training, commands: Commands) -> Usage:
        tag = self.tag_of(training.name)
        self.place.write_config(tag, dict(training.conf))
        return commands.run(self._train_command(training), self.place.log(self.tag))

    def _train_command(self, training: Training) -> list[str]:
        return self.place.command(11, 11, *self._training_options(training))

    def _decode_command(self, training: Training) -> list[str]:
        return self.place.command(
            12, 13, *self._training_options(training),
            "--inference_config", str(self.place.inference_config), "--inference_nj", "1",
        )  # fmt: skip

    def _training_options(self, training: Training) -> list[str]:
        """Of all stages from 11 on: the later ones refuse a training made with other options."""
        tag = self.tag_of(training.name)
        options = ["--config", str(self.place.config(tag)), "--tag", tag]
        if training.start:
            start = self.place.weights(self.tag_of(training.start), training.modules)
            options += ["--init_param", start]
        return options


def with_epochs(run: Run, epochs: int) -> Run:
    """The run at equal cost, of another length."""
    return dataclasses.replace(run, epochs=epochs, equal_cost=True)


def describe(result: Result) -> str:
    """Scores in words."""
    words = []
    for task, measure in (("asr", "WER"), ("st", "BLEU")):
        if any(name.startswith(f"{task}/") for name in result.scores):
            words.append(f"{measure} {result.mean(task):.1f}")
    return ", ".join(words)


def seeds_of(arm: Arm, seeds: Sequence[int]) -> list[int]:
    """Seeds that an arm is trained with."""
    return [seed for seed in seeds if not arm.seeds or seed in arm.seeds]
