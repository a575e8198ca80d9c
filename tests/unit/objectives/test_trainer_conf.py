# SPDX-License-Identifier: Apache-2.0
import pytest

from espnet_objsoup.gradients.engines import ENGINES
from espnet_objsoup.objectives import GRADIENT_ENGINES, SoupConf, check_trainer_conf


@pytest.mark.parametrize(
    ("trainer", "conf", "message"),
    [
        ("objsoup", {"recipee": "static"}, "unknown key recipee; known keys: recipe, order"),
        ("objsoup", {"recipe": "x"}, "trainer_conf.recipe: expected one of static, flat"),
        ("objsoup", {"weighting": "modo"}, "trainer_conf.weighting"),
        ("objsoup", {"weighting_conf": {"gamma": 1}}, "gamma"),
        ("objsoup", {"weighting_conf": {"weights": [1]}}, "expected a mapping"),
        ("objsoup", {"recipe": "flat", "weights_interval": 0}, "weights_interval: expected a who"),
        ("objsoup", {"recipe": "flat", "gradient_engine": "fast"}, "gradient_engine: expected"),
        ("objsoup", {"recipe": "flat", "estimate": "best"}, "estimate: expected unbiased or batch"),
        ("objsoup", {"recipe": "flat", "monitor": True}, "monitor: measuring without acting"),
        ("objsoup", {"monitor": "yes"}, "monitor: expected true or false, found 'yes'"),
        ("objsoup", {"layers": {"topk": 3}}, "trainer_conf.layers: unknown key topk; known: patt"),
        ("objsoup", {"layers": {"policy": "best"}}, "layers.policy: expected conflict or last_k"),
        ("objsoup", {"layers": {"policy": "fixed"}}, "layers.names: expected names"),
        ("objsoup", {"layers": {"threshold": 2}}, r"threshold: expected a cosine in \[-1, 1\]"),
        (
            "objsoup",
            {"layers": "last_k"},
            "trainer_conf.layers: expected a mapping, found 'last_k'",
        ),
        ("objsoup", {"layers": {"pattern": 5}}, "layers.pattern: expected a glob, or a list of"),
        (
            "objsoup",
            {"layers": {"names": "x"}},
            "layers.names: expected a list of names, found 'x'",
        ),
        ("objsoup", {"layers": {5: 1}}, "unknown key 5"),
        ("objsoup", {5: 1}, "unknown key 5"),
        ("objsoup", {"layers": {"scope": "selected"}}, "layers.scope: recipe static weights all"),
        ("objsoup", {"layers": {"top_k": 0}}, "layers.top_k: expected a whole number >= 1"),
        ("objsoup", {"layers": {"scan_interval": 0}}, "policy conflict finds layers by scans"),
        ("default", {"recipe": "static"}, "trainer default takes no options"),
        ("sgd", {}, "expected default or objsoup"),
    ],
)
def test_wrong_options_name_the_key(trainer: str, conf: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_trainer_conf(trainer, conf)


def test_right_options_pass() -> None:
    check_trainer_conf("default", {})
    check_trainer_conf("objsoup", {"recipe": "static", "weighting_conf": {"weights": {"*": 2}}})


def test_weights_are_resolved_against_the_data() -> None:
    conf = SoupConf.from_dict({"weighting_conf": {"weights": {"asr/*": 0.3, "st/*": 0.7}}})
    (level,) = conf.resolve(["asr/fr", "st/fr-en"])
    assert level.weighting_conf["weights"] == {"asr/fr": 0.3, "st/fr-en": 0.7}
    with pytest.raises(ValueError, match="trainer_conf.weighting_conf.weights"):
        conf.resolve(["asr/fr"])


@pytest.mark.parametrize(
    ("conf", "measured"),
    [
        ({}, False),
        ({"monitor": True}, True),
        ({"recipe": "flat"}, True),
        ({"recipe": "flat", "weighting": "uniform"}, False),
        ({"recipe": "bilevel", "weighting": "uniform", "penalty": "barrier"}, True),
        ({"recipe": "bilevel", "weighting": "uniform"}, False),
    ],
    ids=str,
)
def test_gradients_are_measured_only_where_something_needs_them(conf: dict, measured: bool) -> None:
    soup = SoupConf.from_dict(conf)
    assert soup.measures(soup.resolve(["asr/fr", "st/fr-en"])) is measured


def test_engines_are_those_that_exist() -> None:
    assert set(GRADIENT_ENGINES) == set(ENGINES)
