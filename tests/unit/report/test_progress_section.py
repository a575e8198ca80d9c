# SPDX-License-Identifier: Apache-2.0
"""Several runs in the same axes."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from espnet_objsoup.report.page import make_report
from espnet_objsoup.report.progress_section import _minutes, progress
from espnet_objsoup.report.run_data import RunData, name_runs, read_run
from espnet_objsoup.report.section import Section

from .made_run import FIVE, make_run

BILEVEL = {"recipe": "bilevel"}


def section_of(*directories: Path) -> tuple[list[RunData], Section]:
    runs = [read_run(directory) for directory in directories]
    name_runs(runs)
    return runs, progress(runs)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("exp")
    made = [
        make_run(root / "flat_seed1", seed=1),
        make_run(root / "flat_seed2", seed=2),
        make_run(root / "bilevel_seed1", trainer_conf=BILEVEL, seed=1),
        make_run(root / "few", FIVE[:4], BILEVEL, seed=1),
    ]
    return made


def test_seeds_share_a_line_and_other_settings_do_not(four: list[Path]) -> None:
    _, section = section_of(*four)
    assert list(section.legend) == ["flat (2 runs)", "bilevel_seed1", "few"]
    panel = section.groups[0].panels["Recognition"]
    looks = {curve.name: curve.stroke for curve in panel.curves}
    assert looks["flat_seed1"] == looks["flat_seed2"] == section.legend["flat (2 runs)"]
    assert len(set(looks.values())) == 3


def test_groups_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    made = [
        make_run(tmp_path / f"soup_{seed}", trainer_conf=conf, seed=seed)
        for seed, conf in ((1, BILEVEL), (2, BILEVEL), (3, None), (4, None))
    ]
    made.append(make_run(tmp_path / "other", trainer_conf={"recipe": "static"}))
    _, section = section_of(*made)
    assert list(section.legend) == ["soup_1, soup_2", "soup_3, soup_4", "other"]
    # Names of runs are cut to what they differ by.
    _, section = section_of(*made[:4])
    assert list(section.legend) == ["1, 2", "3, 4"]


def test_the_mean_is_over_objectives_that_all_runs_have(four: list[Path]) -> None:
    """`few` translates from German alone, so French takes no part anywhere."""
    runs, section = section_of(*four)
    assert [group.name for group in section.groups] == ["progress_updates", "progress_time"]
    updates, time = (group.panels for group in section.groups)
    assert list(updates) == list(time) == ["Recognition", "Translation"]
    german = runs[0].loss("st/de-en", "valid")
    (curve,) = [c for c in updates["Translation"].curves if c.name == "flat_seed1"]
    assert curve.series.values.tolist() == german.values.tolist()
    assert curve.series.steps.tolist() == [50, 100, 150, 200]
    assert section.missing == ["Left out, as not all runs have them: st/fr-en (not in few)."]
    three = [runs[0].loss(f"asr/{lang}", "valid").values for lang in ("de", "en", "fr")]
    (curve,) = [c for c in updates["Recognition"].curves if c.name == "flat_seed1"]
    assert curve.series.values == pytest.approx(np.mean(three, axis=0))


def test_time_is_that_of_the_steps_so_far(four: list[Path]) -> None:
    runs, section = section_of(*four)
    panel = section.groups[1].panels["Recognition"]
    for run, curve in zip(runs, panel.curves, strict=True):
        seconds = run.statistic("train_epochs", "train_time").values
        assert curve.series.steps == pytest.approx(np.cumsum(50 * seconds) / 60)
    assert panel.x_label == "minutes in training steps"
    # Three seconds of training are not drawn at the left edge of a minute.
    assert panel.x_end == pytest.approx(1.01 * max(c.series.steps[-1] for c in panel.curves))


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    made = [make_run(tmp_path / name, seed=2) for name in ("a", "b")]
    conf = yaml.safe_load((made[1] / "config.yaml").read_text())
    (made[1] / "config.yaml").write_text(yaml.safe_dump({**conf, "accum_grad": 2}))
    _, section = section_of(*made)
    one, two = section.groups[1].panels["Recognition"].curves
    assert two.series.steps == pytest.approx(one.series.steps / 2)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    young = make_run(tmp_path / "young", statistics=False)
    old = make_run(tmp_path / "old")
    _, section = section_of(old, young)
    assert section.missing == [
        "young: recognition was not validated yet.",
        "young: translation was not validated yet.",
    ]
    assert [c.name for c in section.groups[0].panels["Recognition"].curves] == ["old"]
    stranger = make_run(tmp_path / "stranger", ("asr/zh", "ssl"))
    _, section = section_of(old, stranger)
    assert "no objective in common" in section.missing[0]
    assert section.groups == []
    assert section.legend == {}


def test_many_runs_of_few_kinds_stay_lines(tmp_path: Path) -> None:
    made = [
        make_run(
            tmp_path / f"{kind}_seed{seed}",
            trainer_conf={"recipe": "flat", "weights_interval": kind},
            seed=seed,
            epochs=2,
        )
        for kind in (1, 2, 3, 4, 5)
        for seed in (1, 2, 3)
    ]
    _, section = section_of(*made)
    assert len(section.legend) == 5
    for group in section.groups:
        for panel in group.panels.values():
            assert len(panel.curves) == 15
            assert not panel.is_map


def test_an_epoch_without_a_time_is_passed_over(four: list[Path]) -> None:
    run = read_run(four[0])
    times = run.statistics.train_epochs["train_time"]
    times.values[1] = np.nan
    known = times.values[[0, 2, 3]]
    assert _minutes(run).values == pytest.approx(np.cumsum([50, 100, 50] * known) / 60)


def test_only_pages_of_several_runs_have_it(four: list[Path]) -> None:
    assert "Runs in one figure" not in make_report(four[:1]).html
    page = make_report(four[:3], ("svg",))
    assert "<h2>Runs in one figure</h2>" in page.html
    assert {"progress_updates.svg", "progress_time.svg"} <= set(page.figures)
    assert b"flat" in page.figures["progress_time.svg"]
