# SPDX-License-Identifier: Apache-2.0
import pytest

from espnet_objsoup.objectives import ObjectiveError
from espnet_objsoup.train.options import SoupConf, TrainerConfError, check_trainer_conf


@pytest.mark.parametrize(
    ("trainer", "conf", "message"),
    [
        ("objsoup", {"recipee": "static"}, "unknown key recipee; known keys: recipe, weighting"),
        ("objsoup", {"recipe": "flat"}, "trainer_conf.recipe: flat is not available"),
        ("objsoup", {"recipe": "x"}, "trainer_conf.recipe: expected one of static"),
        ("objsoup", {"weighting": "modo"}, "trainer_conf.weighting"),
        ("objsoup", {"weighting_conf": {"gamma": 1}}, "unknown key gamma"),
        ("objsoup", {"weighting_conf": {"weights": [1]}}, "expected a mapping"),
        ("default", {"recipe": "static"}, "trainer default takes no options"),
        ("sgd", {}, "expected default or objsoup"),
    ],
)
def test_wrong_options_name_the_key(trainer: str, conf: dict, message: str) -> None:
    with pytest.raises(TrainerConfError, match=message):
        check_trainer_conf(trainer, conf)


def test_right_options_pass() -> None:
    check_trainer_conf("default", {})
    check_trainer_conf("objsoup", {"recipe": "static", "weighting_conf": {"weights": {"*": 2}}})


def test_weights_are_resolved_against_the_data() -> None:
    conf = SoupConf.from_dict({"weighting_conf": {"weights": {"asr/*": 0.3, "st/*": 0.7}}})
    assert conf.resolve(["asr/fr", "st/fr-en"]) == {"asr/fr": 0.3, "st/fr-en": 0.7}
    with pytest.raises(ObjectiveError, match="trainer_conf.weighting_conf.weights"):
        conf.resolve(["asr/fr"])
