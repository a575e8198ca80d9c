# SPDX-License-Identifier: Apache-2.0
"""The part of a configuration that is packed is what the task builds its model from."""

from espnet_objsoup.tasks.objsoup import ObjSoupTask
from espnet_objsoup.zoo.config import KEPT, for_model
from espnet_objsoup.zoo.resolve import BLOCKS

# Of the task's own options those that concern training.
TRAINING = {"trainer", "trainer_conf", "sampler_conf", "print_soup"}


def task_options() -> set[str]:
    groups = ObjSoupTask.get_parser()._action_groups
    return {
        action.dest
        for group in groups
        if group.title in ("Task related", "Preprocess related")
        for action in group._group_actions
    }


def test_every_option_of_the_model_is_packed() -> None:
    options = task_options()
    assert options >= TRAINING
    assert options - TRAINING <= set(KEPT)


def test_every_component_is_looked_through_for_files() -> None:
    blocks = {name for name in task_options() - TRAINING if name.endswith("_conf")}
    assert blocks - set(BLOCKS) == {"ctc_conf"}  # numbers and words of ESPnet's CTC


def test_order_and_other_options_do_not_matter() -> None:
    conf = {"wandb_name": "x", "version": "1", "encoder": "e", "max_epoch": 3}
    assert for_model(conf) == {"encoder": "e", "version": "1"}
