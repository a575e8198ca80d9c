# SPDX-License-Identifier: Apache-2.0
"""A choice of trainer for ESPnet's tasks, which know only a class attribute; faults in words."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from espnet2.tasks.abs_task import AbsTask, IteratorOptions
from espnet2.train.class_choices import ClassChoices
from espnet2.train.dataset import AbsDataset

from espnet_objsoup.objectives import TrainerConfError
from espnet_objsoup.train.checked_audio import check_audio_of
from espnet_objsoup.train.process_group import watched_group


class ChoosesTrainer(AbsTask):
    """Options `--trainer` and `--trainer_conf` for a task of ESPnet's; to be named before it.

    Attributes:
        trainer_choices: trainers by name; also in the task's `class_choices_list`.
        check_trainer_conf: refuses a trainer's name or options before a model is built.
    """

    trainer_choices: ClassVar[ClassChoices]
    check_trainer_conf: ClassVar[Callable[[str, Mapping[str, Any] | None], None]]

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Check the trainer's options before anything is built, then run ESPnet's worker.

        Raises:
            ValueError: for options that cannot be used, or audio that has changed.
            LostProcessError: if another process of the training does not answer any more.
        """
        # Configurations of ESPnet itself have neither key.
        name = getattr(args, "trainer", "default")
        cls.check_trainer_conf(name, getattr(args, "trainer_conf", {}))
        if name != "default" and getattr(args, "use_deepspeed", False):
            raise TrainerConfError(
                f"use_deepspeed: expected false with trainer {name}, found true; set it to false, "
                "or use trainer: default"
            )
        # AbsTask reads the class attribute; it is put back so that a second run in this process
        # starts from the default again.
        previous = cls.trainer
        cls.trainer = cls.trainer_choices.get_class(name)
        try:
            with watched_group(getattr(args, "dist_rank", None)):
                super().main_worker(args)
        finally:
            cls.trainer = previous

    @classmethod
    def build_dataset(
        cls,
        args: argparse.Namespace,
        iter_options: IteratorOptions,
        keys_to_load: set[int | str] | None = None,
    ) -> AbsDataset:
        """ESPnet's dataset, whose errors name the utterance's file."""
        dataset = super().build_dataset(args, iter_options, keys_to_load)
        check_audio_of(dataset, iter_options.data_path_and_name_and_type, iter_options.shape_files)
        return dataset
