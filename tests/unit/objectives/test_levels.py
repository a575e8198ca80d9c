# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

from espnet_objsoup.objectives import (
    ObjectiveError,
    SoupConfError,
    check_soup_conf,
    resolve_levels,
    soup_table,
    waiting_note,
)
from espnet_objsoup.objectives.options import Option

NAMES = ("asr/de", "asr/fr", "st/fr-en", "ssl")
LABELLED = NAMES[:3]


def members(conf: dict, names: tuple[str, ...] = NAMES) -> list[tuple[str, ...]]:
    return [level.objectives for level in resolve_levels(conf, names)]


@pytest.mark.parametrize(
    ("conf", "levels"),
    [
        ({}, [NAMES]),
        ({"recipe": "flat"}, [NAMES]),
        ({"recipe": "constrained"}, [LABELLED, ("ssl",)]),
        ({"recipe": "multilevel"}, [("asr/de", "asr/fr"), ("st/fr-en",), ("ssl",)]),
        (
            {"recipe": "multilevel", "order": "usa"},
            [("st/fr-en",), ("asr/de", "asr/fr"), ("ssl",)],
        ),
        (
            {"levels": [{"objectives": ["*/fr*"]}, {"objectives": ["ssl", "asr/de"]}]},
            [("asr/fr", "st/fr-en"), ("asr/de", "ssl")],
        ),
    ],
)
def test_levels(conf: dict, levels: list) -> None:
    assert members(conf) == levels


def test_recipes_without_self_supervision() -> None:
    assert members({"recipe": "flat"}, LABELLED) == [LABELLED]
    assert members({"recipe": "bilevel"}, LABELLED) == [("asr/de", "asr/fr"), ("st/fr-en",)]
    assert members({"recipe": "bilevel", "order": "sa"}, LABELLED)[0] == ("st/fr-en",)
    # Recognition only: the constrained recipe of the paper's second corpus.
    assert members({"recipe": "constrained"}, ("asr/zh", "ssl")) == [("asr/zh",), ("ssl",)]


@pytest.mark.parametrize(
    ("conf", "penalties"),
    [
        ({"recipe": "constrained"}, [None, 0.0]),
        ({"recipe": "multilevel"}, [None, 0.1, 0.0]),
        ({"recipe": "multilevel", "penalty_conf": {"init": 0.3}}, [None, 0.3, 0.3]),
        ({"recipe": "multilevel", "penalty_conf": {"max": 0.05}}, [None, 0.05, 0.0]),
    ],
)
def test_linear_penalty_starts_by_level(conf: dict, penalties: list) -> None:
    levels = resolve_levels(conf, NAMES)
    assert [level.penalty_conf.get("init") for level in levels] == penalties


def test_defaults_by_kind_of_soup() -> None:
    assert resolve_levels({}, NAMES)[0].weighting == "static"
    flat = resolve_levels({"recipe": "flat"}, NAMES)[0]
    assert flat.weighting == "modo"
    assert flat.weighting_conf == {"gamma": 0.01, "rho": 0.1, "matrix": "gramian"}
    own = resolve_levels(
        {"levels": [{"objectives": ["asr/*", "st/*"]}, {"objectives": ["ssl"]}]}, NAMES
    )
    assert own[1].penalty == "linear"
    assert own[1].penalty_conf["init"] == 0.0


def test_levels_override_general_settings() -> None:
    conf = {
        "levels": [
            {"objectives": ["asr/*"]},
            {"objectives": ["st/*"], "weighting_conf": {"rho": 0.2}},
            {"objectives": ["ssl"], "weighting": "mgda", "penalty_conf": {"step": 0.5}},
        ],
        "weighting": "modo",
        "weighting_conf": {"gamma": 0.3},
        "penalty": "linear",
        "penalty_conf": {"max": 3},
    }
    first, second, third = resolve_levels(conf, NAMES)
    assert first.weighting_conf == {"gamma": 0.3, "rho": 0.1, "matrix": "gramian"}
    assert second.weighting_conf == {"gamma": 0.3, "rho": 0.2, "matrix": "gramian"}
    assert third.weighting_conf["max_iters"] == 1000
    assert third.penalty_conf == {"init": 0.0, "step": 0.5, "max": 3, "normalize": False}


def test_weights_are_divided_by_their_sum_where_that_is_wanted() -> None:
    conf = {"weights": {"asr/*": 3.0, "st/*": 2.0, "ssl": 0.5}, "normalize": True}
    (level,) = resolve_levels({"weighting_conf": conf}, NAMES)
    weights = level.weighting_conf["weights"]
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["asr/de"] / weights["st/fr-en"] == pytest.approx(1.5)
    (level,) = resolve_levels({"weighting_conf": {"normalize": True}}, NAMES)
    assert level.weighting_conf["weights"] == dict.fromkeys(NAMES, 1 / len(NAMES))


def test_general_weights_concern_all_objectives() -> None:
    conf = {
        "recipe": "bilevel",
        "weighting": "static",
        "weighting_conf": {"weights": {"asr/*": 0.3, "st/*": 0.7}},
    }
    levels = resolve_levels(conf, LABELLED)
    assert levels[0].weighting_conf["weights"] == {"asr/de": 0.3, "asr/fr": 0.3}
    assert levels[1].weighting_conf["weights"] == {"st/fr-en": 0.7}


LEVEL = {"objectives": ["*"]}


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"recipes": "flat"}, "trainer_conf: unknown key recipes; known keys: recipe, order"),
        ({"recipe": "x"}, "trainer_conf.recipe: expected one of static, flat.*found 'x'"),
        ({"recipe": ["flat"]}, "trainer_conf.recipe: expected a name"),
        ({"order": "uas"}, "trainer_conf.order: recipe static has no order"),
        ({"recipe": "bilevel", "order": "uas"}, "order: recipe bilevel has as and sa, found 'uas'"),
        ({"levels": [LEVEL], "recipe": "flat"}, "expected either levels or recipe"),
        ({"levels": [LEVEL], "order": "as"}, "expected either levels or order"),
        ({"levels": []}, "trainer_conf.levels: expected a list of at least one level"),
        ({"levels": "asr"}, "trainer_conf.levels: expected a list"),
        ({"levels": [["asr/*"]]}, r"levels\[1\]: expected a mapping"),
        ({"levels": [{"objectives": []}]}, r"levels\[1\].objectives: expected a list"),
        ({"levels": [{"objective": ["*"]}]}, r"levels\[1\]: unknown key objective"),
        ({"levels": [{**LEVEL, "penalty": "linear"}]}, r"levels\[1\].penalty.*top"),
        ({"weighting": "modo"}, "recipe static has fixed weights"),
        ({"recipe": "flat", "weighting": "x"}, "trainer_conf.weighting: expected one of static"),
        ({"recipe": "flat", "weighting_conf": {"eta": 1}}, "unknown option eta of weighting modo"),
        ({"recipe": "flat", "weighting_conf": {"gamma": "1"}}, "gamma: expected a number > 0"),
        ({"recipe": "flat", "weighting_conf": {"gamma": True}}, "gamma: expected a number > 0"),
        ({"recipe": "flat", "weighting_conf": {"rho": float("nan")}}, "rho: expected a number"),
        ({"recipe": "flat", "weighting_conf": [1]}, "weighting_conf: expected a mapping"),
        ({"weighting_conf": {"weights": [1]}}, "weights: expected a mapping"),
        ({"recipe": "flat", "penalty": "linear"}, "a soup of one level has no penalty"),
        ({"recipe": "bilevel", "penalty": "x"}, "trainer_conf.penalty: expected one of constant"),
        ({"recipe": "bilevel", "penalty_conf": {"step": -1}}, "step: expected a number >= 0"),
        ({"recipe": "bilevel", "penalty_conf": {"stepp": 1}}, "unknown option stepp of penalty"),
        ({"recipe": "bilevel", "penalty": "barrier", "penalty_conf": {"beta": 2}}, "beta.*<= 1"),
    ],
)
def test_wrong_keys_are_named_before_the_data_is_read(conf: dict, message: str) -> None:
    with pytest.raises(SoupConfError, match=message):
        check_soup_conf(conf)


@pytest.mark.parametrize(
    ("conf", "names", "message"),
    [
        ({"recipe": "constrained"}, LABELLED, "constrained needs objectives of task ssl.*ssl: cpc"),
        ({"recipe": "multilevel"}, LABELLED, "set ssl: cpc, or use recipe: bilevel"),
        ({"recipe": "bilevel"}, ("asr/de",), "bilevel needs objectives of task st.*flat"),
        ({"recipe": "multilevel"}, ("asr/de", "ssl"), "task st.*use recipe: constrained"),
        ({"recipe": "bilevel"}, NAMES, "no level has ssl.*multilevel"),
        ({"levels": [{"objectives": ["asr/*"]}]}, LABELLED, "no level has st/fr-en; add"),
        ({"levels": [{"objectives": ["mt/*"]}]}, NAMES, r"levels\[1\].objectives: 'mt/\*' matches"),
        (
            {"levels": [LEVEL, {"objectives": ["ssl"]}]},
            NAMES,
            r"levels\[2\].objectives: expected every objective in one level, found ssl in .*\[1\]",
        ),
        ({"recipe": "flat", "weighting": "krum"}, NAMES[:2], "krum needs a level of at least 3"),
        (
            {"recipe": "multilevel", "penalty_conf": {"init": 2}},
            NAMES,
            "penalty_conf.init: expected at most max = 1.5, found 2",
        ),
        (
            {
                "levels": [
                    {"objectives": ["asr/*"]},
                    {"objectives": ["st/*"]},
                    {"objectives": ["ssl"], "penalty": "barrier"},
                ]
            },
            NAMES,
            "all lower levels together, found linear, barrier",
        ),
        (
            {
                "levels": [
                    {"objectives": ["asr/*"]},
                    {"objectives": ["st/*"], "penalty_conf": {"normalize": True}},
                    {"objectives": ["ssl"]},
                ],
                "penalty": "constant",
            },
            NAMES,
            "normalize concerns all levels",
        ),
    ],
)
def test_what_does_not_fit_the_data_is_refused(conf: dict, names: tuple, message: str) -> None:
    with pytest.raises(ObjectiveError, match=message):
        resolve_levels(conf, names)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ExcessMTL", "whole Jacobian.*use dwa"),
        ("graddrop", "whole Jacobian.*pcgrad"),
        ("TrimmedMean", "whole Jacobian.*krum"),
        ("ConFIG", "whole Jacobian.*upgrad"),
        ("famo", "second forward"),
        ("cr_mogm", "smoothing"),
    ],
)
def test_weightings_that_cannot_work_say_why(name: str, message: str) -> None:
    with pytest.raises(SoupConfError, match=message):
        check_soup_conf({"recipe": "flat", "weighting": name})


def test_missing_packages_come_with_the_pip_line(monkeypatch) -> None:
    monkeypatch.setattr("espnet_objsoup.objectives.weighting_table.find_spec", lambda name: None)
    with pytest.raises(
        SoupConfError, match=r'quadprog.*pip install "torchjd\[quadprog-projector\]"'
    ):
        check_soup_conf({"recipe": "flat", "weighting": "upgrad"})


def test_what_waits_for_the_estimate_is_named() -> None:
    levels = [
        {"objectives": ["asr/*"], "weighting": "upgrad"},
        {"objectives": ["st/*", "ssl"], "weighting": "modo", "penalty": "barrier"},
    ]
    note = waiting_note(resolve_levels({"levels": levels}, NAMES), 16)
    assert note.startswith("upgrad, barrier: first used")
    assert note.endswith("not before step 800")
    assert waiting_note(resolve_levels({"recipe": "flat"}, NAMES), 16) == ""
    alone = [levels[0], {"objectives": ["st/*", "ssl"]}]  # one objective has weight one anyway
    assert waiting_note(resolve_levels({"levels": alone}, ["asr/de", *NAMES[2:]]), 16) == ""


def test_a_level_of_self_supervision_without_it_says_how_to_have_it() -> None:
    levels = [{"objectives": ["asr/*", "st/*"]}, {"objectives": ["ssl"]}]
    with pytest.raises(ObjectiveError, match="the data has .*; set ssl: cpc"):
        resolve_levels({"levels": levels}, LABELLED)


def test_table() -> None:
    table = soup_table(resolve_levels({"recipe": "multilevel"}, NAMES))
    assert table.splitlines() == [
        "level  objective  weighting  penalty  coefficient (epoch 1)",
        "1      asr/de     modo       -        1",
        "1      asr/fr     modo       -        1",
        "2      st/fr-en   modo       linear   0.1",
        "3      ssl        modo       linear   0",
    ]
    static = soup_table(resolve_levels({"weighting_conf": {"weights": {"*": 0.3}}}, NAMES[:1]))
    assert "static 0.3" in static
    barrier = soup_table(resolve_levels({"recipe": "bilevel", "penalty": "barrier"}, LABELLED))
    assert barrier.splitlines()[-1].endswith("from barrier")


def test_option_bounds() -> None:
    Option(1, integer=True, low=1).check(1, "k")
    for value in (0, 1.5, True):
        with pytest.raises(SoupConfError, match="k: expected a whole number >= 1"):
            Option(1, integer=True, low=1).check(value, "k")
    with pytest.raises(SoupConfError, match="one of a, b"):
        Option("a", choices=("a", "b")).check("c", "k")
    with pytest.raises(SoupConfError, match="true or false"):
        Option(False, boolean=True).check(1, "k")


def test_torch_is_not_imported() -> None:
    code = "import espnet_objsoup.objectives, sys; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
