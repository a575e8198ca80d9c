# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

import pytest
import yaml

from espnet_objsoup.bin.check_config import statistics_options
from espnet_objsoup.comparison.current import read_variants
from espnet_objsoup.comparison.fingerprint import config_fingerprint
from espnet_objsoup.comparison.plan import Comparison, PlanError
from espnet_objsoup.comparison.trainings import Training, merge, trainings_of, with_choice
from espnet_objsoup.objectives import check_trainer_conf
from espnet_objsoup.objectives.trainer_conf import SoupConf

RECIPE = Path(__file__).parents[3] / "egs2" / "mini_objsoup"


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Comparison:
    monkeypatch.chdir(RECIPE)
    return Comparison.read(Path("conf/compare.yaml"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.yaml").write_text("max_epoch: 12\noptim_conf: {lr: 1.0, eps: 0.5}\n")
    return tmp_path


def read(**changes: Any) -> Comparison:
    conf = {
        "config": "train.yaml",
        "reference": "a",
        "variants": {"v": {}},
        "arms": {"a": {}, "b": {"conf": {"optim_conf": {"lr": 2.0}}}},
        **changes,
    }
    Path("compare.yaml").write_text(yaml.safe_dump(conf))
    return Comparison.read(Path("compare.yaml"))


def objectives(data: dict[str, str], conf: dict[str, Any]) -> list[str]:
    if conf.get("objectives"):
        return conf["objectives"]
    langs = data.get("langs", "en fr de").split()
    pairs = data.get("st_pairs", "fr-en de-en").split()
    return [*(f"asr/{x}" for x in langs), *(f"st/{x}" for x in pairs)] + (
        ["ssl"] if conf.get("ssl") else []
    )


def all_trainings(comparison: Comparison) -> list[tuple[str, str, Training, dict[str, str]]]:
    return [
        (variant.name, arm.name, training, dict(variant.data))
        for variant in comparison.variants.values()
        for arm in comparison.arms.values()
        for training in trainings_of(comparison, variant, arm, 1)
    ]


def test_every_arm_is_a_soup_of_every_variant(real: Comparison) -> None:
    for variant, arm, training, data in all_trainings(real):
        conf = dict(training.conf)
        check_trainer_conf(conf["trainer"], conf["trainer_conf"])
        soup = SoupConf.from_dict(conf["trainer_conf"])
        assert soup.resolve(objectives(data, conf)), (variant, arm)


def test_runs_are_equally_long(real: Comparison) -> None:
    for variant in real.variants.values():
        lengths = {
            arm.name: sum(t.epochs for t in trainings_of(real, variant, arm, 1))
            for arm in real.arms.values()
        }
        assert len(set(lengths.values())) == 1, (variant.name, lengths)


def test_updates_are_as_many_in_every_variant(real: Comparison) -> None:
    """Data of every size are cut into epochs of so many batches."""
    updates = {
        sum(t.epochs * t.conf["num_iters_per_epoch"] for t in trainings_of(real, variant, arm, 1))
        for variant in real.variants.values()
        for arm in real.arms.values()
    }
    assert updates == {3000}


def test_statistics_serve_all_arms(real: Comparison) -> None:
    found = {str(statistics_options(dict(t.conf))) for _, _, t, _ in all_trainings(real)}
    assert len(found) == 1


def test_fixed_weights_sum_to_one_in_every_variant(real: Comparison) -> None:
    """As a soup's do: clipping means the same for all."""
    for variant, arm, training, data in all_trainings(real):
        soup = SoupConf.from_dict(training.conf["trainer_conf"])
        if soup.is_static:
            (level,) = soup.resolve(objectives(data, dict(training.conf)))
            total = sum(level.weighting_conf["weights"].values())
            assert total == pytest.approx(1.0), (variant, arm)


def test_schedules_follow_the_length(real: Comparison) -> None:
    (training,) = trainings_of(real, real.variants["balanced"], real.arms["bilevel_as"], 1, 10)
    assert training.conf["trainer_conf"]["penalty_conf"] == {"step": 0.4, "max": 1.5}
    assert training.epochs == 10


def test_merge_replaces_options_of_another_choice_as_a_whole() -> None:
    base = {"a": {"b": 1, "c": 2}, "penalty_conf": {"step": 0.1, "max": 1.5}}
    more = {"a": {"c": 3}, "penalty_conf": {"value": 1.0}}
    assert merge(base, more) == {"a": {"b": 1, "c": 3}, "penalty_conf": {"value": 1.0}}
    assert base["a"] == {"b": 1, "c": 2}


def test_a_grid_goes_on_from_the_best(place: Path) -> None:
    comparison = read(arms={"a": {}, "b": {"conf": {"optim_conf": {"lr": 2.0}}},
                            "g": {"choose": {"among": ["a", "b"], "share": 0.25}}})  # fmt: skip
    trainings = trainings_of(comparison, comparison.variants["v"], comparison.arms["g"], 7)
    assert [(t.name, t.epochs) for t in trainings] == [("try_a", 3), ("try_b", 3), ("", 6)]
    assert trainings[1].conf == {
        "max_epoch": 3, "optim_conf": {"lr": 2.0, "eps": 0.5}, "seed": 7
    }  # fmt: skip
    last = with_choice(comparison, trainings[2], "b")
    assert (last.start, last.conf["optim_conf"]["lr"], last.epochs) == ("try_b", 2.0, 6)


def test_fingerprint_is_that_of_the_configuration_not_of_the_seed(place: Path) -> None:
    comparison = read()
    variant, arms = comparison.variants["v"], comparison.arms

    def fingerprint(arm: str, seed: int = 1, beam: int = 5) -> str:
        trainings = trainings_of(comparison, variant, arms[arm], seed)
        return config_fingerprint(trainings, {"beam_size": beam})

    assert fingerprint("a") == fingerprint("a", seed=2)
    assert len({fingerprint("a"), fingerprint("b"), fingerprint("a", beam=1)}) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {}}, "arms: expected at least one"),
        ({"arms": {"a b": {}}}, "expected names of letters, digits and _, found 'a b'"),
        ({"arms": {"a_equal_cost": {}}}, "expected names"),
        ({"arms": {"a": {"config": {}}}}, r"arms\.a: unknown key config; known keys: group, conf"),
        ({"arms": {"a": {"seeds": ["1"]}}}, "seeds: expected a list of whole numbers"),
        ({"arms": {"a": {"cost_of": "z"}}}, "cost_of: expected one of a, found 'z'"),
        ({"arms": {"a": {"choose": {"among": ["a"], "share": 1.0}}}}, "a share of the updates"),
        ({"arms": {"a": {"choose": {"among": [], "share": 0.1}}}}, "expected arms"),
        ({"arms": {"a": {"choose": {"among": ["a"], "share": 0.1}}}}, "arms of one training"),
        ({"reference": "z"}, "reference: expected one of a, b, found 'z'"),
        ({"variants": {"v": {"data": {"lang": "en"}}}}, "unknown key lang"),
        ({"variants": {"v": 3}}, "v: expected `key: value` lines, found 3"),
        ({"other": 1}, "unknown key other"),
    ],
    ids=str,
)
def test_mistakes_are_named(place: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        read(**changes)


def test_a_run_has_to_be_longer_than_what_comes_before(place: Path) -> None:
    comparison = read(arms={"a": {}, "two": {"before": {"share": 0.9, "modules": "e:e"}}})
    with pytest.raises(PlanError, match="leaves 0 epochs"):
        trainings_of(comparison, comparison.variants["v"], comparison.arms["two"], 1, 1)


def test_words_choose_arms_and_variants(place: Path) -> None:
    comparison = read(arms={"a": {}, "b": {"group": "ablation"}, "c": {}})
    assert [arm.name for arm in comparison.choose_arms(["main"])] == ["a", "c"]
    assert [arm.name for arm in comparison.choose_arms(["c", "ablation"])] == ["b", "c"]
    assert [v.name for v in comparison.choose_variants(["all"])] == ["v"]


def test_a_schedule_is_as_long_as_its_training(place: Path) -> None:
    (place / "train.yaml").write_text(
        "max_epoch: 12\nnum_iters_per_epoch: 50\nscheduler_conf: {max_steps: 600}\n"
    )
    before = {"share": 0.25, "conf": {}, "modules": "encoder:encoder"}
    comparison = read(arms={"a": {}, "b": {"before": before}})
    variant = comparison.variants["v"]
    lengths = {
        (arm.name, epochs): [
            training.conf["scheduler_conf"]["max_steps"]
            for training in trainings_of(comparison, variant, arm, 1, epochs)
        ]
        for arm in comparison.arms.values()
        for epochs in (None, 8)
    }
    assert lengths == {
        ("a", None): [600],
        ("a", 8): [400],
        ("b", None): [150, 450],
        ("b", 8): [100, 300],
    }


def test_a_schedule_without_a_number_of_batches_is_refused(place: Path) -> None:
    (place / "train.yaml").write_text("max_epoch: 12\nscheduler_conf: {max_steps: 600}\n")
    comparison = read()
    with pytest.raises(PlanError, match="num_iters_per_epoch: expected a whole number, found None"):
        trainings_of(comparison, comparison.variants["v"], comparison.arms["a"], 1)


def test_tracked_results_are_of_the_tracked_configurations(real: Comparison) -> None:
    """Whoever changes what is compared runs it again, or removes what is no longer true."""
    decoding = yaml.safe_load(Path("conf/decode.yaml").read_text())
    variants = list(read_variants(Path("results"), real, decoding))
    assert variants
    for variant in variants:
        assert not variant.outdated, [result.name for result in variant.outdated]
        assert not variant.other_data, [result.name for result in variant.other_data]
        table = Path("results/RESULTS.md").read_text()
        assert all(f"| `{arm}` | {len(runs)} |" in table for arm, runs in variant.by_arm.items())
