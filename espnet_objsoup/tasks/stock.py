# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ST, ASR and S2T tasks with a choice of trainer."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from espnet2.tasks.abs_task import AbsTask
from espnet2.tasks.asr import ASRTask
from espnet2.tasks.s2t import S2TTask
from espnet2.tasks.st import STTask
from espnet2.train.class_choices import ClassChoices
from espnet2.train.trainer import Trainer

from espnet_objsoup.train.options import TrainerConfError
from espnet_objsoup.train.stock_trainer import StockSoupTrainer, check_stock_trainer_conf

trainer_choices = ClassChoices(
    "trainer",
    classes={"default": Trainer, "objsoup": StockSoupTrainer},
    type_check=Trainer,
    default="default",
)


class ChoosesTrainer(AbsTask):
    """Options `--trainer` and `--trainer_conf` for a task of ESPnet's; to be named before it.

    Attributes:
        trainer_choices: trainers by name; also in the task's `class_choices_list`.
        check_trainer_conf: refuses a trainer's name or options before a model is built.
    """

    trainer_choices: ClassVar[ClassChoices] = trainer_choices
    check_trainer_conf: ClassVar[Callable[[str, Mapping[str, Any] | None], None]] = staticmethod(
        check_stock_trainer_conf
    )

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Check the trainer's options before anything is built, then run ESPnet's worker.

        Raises:
            ValueError: for options that cannot be used.
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
            super().main_worker(args)
        finally:
            cls.trainer = previous


class SoupSTTask(ChoosesTrainer, STTask):
    """ESPnet's ST task with a choice of trainer."""

    class_choices_list: ClassVar[list[ClassChoices]] = [
        *STTask.class_choices_list,
        trainer_choices,
    ]


class SoupASRTask(ChoosesTrainer, ASRTask):
    """ESPnet's ASR task with a choice of trainer."""

    class_choices_list: ClassVar[list[ClassChoices]] = [
        *ASRTask.class_choices_list,
        trainer_choices,
    ]


class SoupS2TTask(ChoosesTrainer, S2TTask):
    """ESPnet's S2T task with a choice of trainer."""

    class_choices_list: ClassVar[list[ClassChoices]] = [
        *S2TTask.class_choices_list,
        trainer_choices,
    ]
