# SPDX-License-Identifier: Apache-2.0
import pytest

from espnet_objsoup.objectives import ObjectiveError, ObjectiveSpec, match, resolve_weights

NAMES = ("asr/de", "asr/fr", "st/fr-en", "ssl")


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("asr/fr", ObjectiveSpec("asr", "fr")),
        ("st/fr-en", ObjectiveSpec("st", "fr", "en")),
        ("ssl", ObjectiveSpec("ssl")),
    ],
)
def test_names_parse_and_print(name: str, spec: ObjectiveSpec) -> None:
    assert ObjectiveSpec.parse(name) == spec
    assert str(spec) == name


@pytest.mark.parametrize("name", ["", "asr", "asr/", "st/fr", "st/fr-en-de", "mt/fr-en", "ASR/fr"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ObjectiveError, match="asr/<lang>"):
        ObjectiveSpec.parse(name)


def test_globs() -> None:
    assert match("*/fr*", NAMES, "k") == ["asr/fr", "st/fr-en"]
    with pytest.raises(ObjectiveError, match=r"k: 'mt/\*' matches no objective.*asr/de"):
        match("mt/*", NAMES, "k")


def test_exact_names_win_over_globs() -> None:
    weights = resolve_weights({"*": 1, "asr/fr": 0.5}, NAMES)
    assert weights == {"asr/de": 1.0, "asr/fr": 0.5, "st/fr-en": 1.0, "ssl": 1.0}
    assert list(weights) == list(NAMES)


def test_default_weights_are_one() -> None:
    assert set(resolve_weights({}, NAMES).values()) == {1.0}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"asr/*": 1.0}, "no weight for objective st/fr-en"),
        ({"asr/*": 1.0, "*": 1.0}, "matched by"),
        ({"mt/*": 1.0, "*": 1.0}, "matches no objective"),
        ({"*": -1.0}, ">= 0"),
        ({"*": float("nan")}, ">= 0"),
        ({"*": "1"}, "expected a number"),
        ({"*": True}, "expected a number"),
        ({"*": 0}, "all weights are zero"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights: dict, message: str) -> None:
    with pytest.raises(ObjectiveError, match=message):
        resolve_weights(weights, NAMES, "weights")
