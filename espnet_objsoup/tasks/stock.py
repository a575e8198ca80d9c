# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ST, ASR and S2T tasks with a choice of trainer."""

from typing import ClassVar

from espnet2.tasks.asr import ASRTask
from espnet2.tasks.s2t import S2TTask
from espnet2.tasks.st import STTask
from espnet2.train.class_choices import ClassChoices
from espnet2.train.trainer import Trainer

from espnet_objsoup.tasks.choose_trainer import ChoosesTrainer
from espnet_objsoup.train.stock_trainer import StockSoupTrainer, check_stock_trainer_conf

trainer_choices = ClassChoices(
    "trainer",
    classes={"default": Trainer, "objsoup": StockSoupTrainer},
    type_check=Trainer,
    default="default",
)


class _StockTask(ChoosesTrainer):
    """What the stock tasks have in common."""

    trainer_choices = trainer_choices
    check_trainer_conf = staticmethod(check_stock_trainer_conf)


class SoupSTTask(_StockTask, STTask):
    """ESPnet's ST task with a choice of trainer."""

    class_choices_list: ClassVar[list[ClassChoices]] = [
        *STTask.class_choices_list,
        trainer_choices,
    ]


class SoupASRTask(_StockTask, ASRTask):
    """ESPnet's ASR task with a choice of trainer."""

    class_choices_list: ClassVar[list[ClassChoices]] = [
        *ASRTask.class_choices_list,
        trainer_choices,
    ]


class SoupS2TTask(_StockTask, S2TTask):
    """ESPnet's S2T task with a choice of trainer."""

    class_choices_list: ClassVar[list[ClassChoices]] = [
        *S2TTask.class_choices_list,
        trainer_choices,
    ]
