# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from espnet_objsoup.report.differences import configuration_differences, flatten
from espnet_objsoup.report.missing import why_no_scan, why_no_soup
from espnet_objsoup.report.run_data import RunData, name_runs, read_run
from espnet_objsoup.report.scores import score_rows
from espnet_objsoup.report.series import ReportError

from .made_run import FIVE, make_run, write_statistics


def run_of(directory: Path, **conf: object) -> RunData:
    """A run that has a configuration and nothing else."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(conf))
    return read_run(directory)


def test_a_whole_run(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "exp", epochs=2))
    assert run.objectives == list(FIVE)
    assert (run.recipe, run.epochs, run.steps, run.is_finished) == ("flat", 2, 100, True)
    assert [level.objectives for level in run.levels] == [FIVE]
    assert run.loss("st/fr-en", "valid").steps.tolist() == [50, 100]
    assert run.loss("st/fr-en", "train") is not None
    assert run.scores["test"].keys() >= {"asr/mean", "st/mean"}


def test_steps_are_those_of_the_optimiser(tmp_path: Path) -> None:
    make_run(tmp_path, epochs=1)
    conf = yaml.safe_load((tmp_path / "config.yaml").read_text()) | {"accum_grad": 2}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(conf))
    assert read_run(tmp_path).loss("asr/de", "valid").steps.tolist() == [25]


def test_losses_of_refreshes_where_there_are_no_others(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path, epochs=1, statistics=False))
    assert len(run.loss("asr/de", "train")) == 25
    assert run.loss("asr/de", "valid") is None


def test_stock_tasks_have_espnets_names(tmp_path: Path) -> None:
    make_run(tmp_path, ("asr/ctc", "asr/att"), {"monitor": True}, epochs=1, statistics=False)
    conf = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del conf["objectives"]  # ESPnet's configurations have none
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(conf))
    write_statistics(tmp_path / "tensorboard", ["ctc", "att"], 1, 50, np.random.default_rng(1))
    run = read_run(tmp_path)
    assert run.objectives == ["asr/ctc", "asr/att"]
    assert run.recipe == "static, monitor"
    assert run.loss("asr/ctc", "valid").values.tolist() == (
        run.statistic("valid", "loss_ctc").values.tolist()
    )
    conf |= {"trainer": "default"}
    del conf["trainer_conf"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(conf))
    (tmp_path / "soup.jsonl").unlink()
    assert read_run(tmp_path).objectives == ["asr/ctc", "asr/att"]


def test_why_something_is_missing(tmp_path: Path) -> None:
    names = list(FIVE)
    run = run_of(tmp_path, objectives=names)
    assert "trainer: default" in why_no_soup(run)
    assert "monitor: true" in why_no_soup(run)
    run = run_of(tmp_path, objectives=names, trainer="objsoup", trainer_conf={"recipe": "static"})
    assert "static, which needs no gradients" in why_no_scan(run)
    run = run_of(tmp_path, objectives=names, trainer="objsoup", trainer_conf={"recipe": "flat"})
    assert why_no_soup(run).startswith("nothing yet")
    assert why_no_scan(run).startswith("no scan yet")
    conf = {"recipe": "flat", "layers": {"policy": "last_k"}}
    run = run_of(tmp_path, objectives=names, trainer="objsoup", trainer_conf=conf)
    assert why_no_scan(run).startswith("no scans were made")


def test_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"expected an experiment.*give exp/<tag>"):
        read_run(tmp_path / "none")
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(ReportError, match=r"config.yaml: line \d+: expected YAML"):
        read_run(tmp_path)
    (tmp_path / "config.yaml").write_text("- a")
    with pytest.raises(ReportError, match="expected keys and values, found list"):
        read_run(tmp_path)
    with pytest.raises(ReportError, match=r"config.yaml: trainer_conf: .*unknown key recipee"):
        run_of(tmp_path, objectives=["ssl"], trainer="objsoup", trainer_conf={"recipee": 1})


def test_damaged_scores(tmp_path: Path) -> None:
    make_run(tmp_path, epochs=1)
    (tmp_path / "scores.json").write_text("{")
    with pytest.raises(ValueError, match=r"scores.json: expected the scores of stage 13"):
        read_run(tmp_path)


def named(tmp_path: Path, *places: str) -> list[str]:
    runs = [run_of(tmp_path / place) for place in places]
    name_runs(runs)
    return [run.name for run in runs]


def test_names_differ_and_are_short(tmp_path: Path) -> None:
    assert named(tmp_path, "objsoup_train_flat_raw") == ["objsoup_train_flat_raw"]
    assert named(tmp_path, "objsoup_train_flat_raw", "objsoup_train_sa_raw") == ["flat", "sa"]
    assert named(tmp_path, "a/exp/x", "b/exp/x") == ["a", "b"]
    assert named(tmp_path, "train_flat", "train_flat_2") == ["flat", "flat_2"]
    assert named(tmp_path, "x_a_x", "x_x") == ["x_a_x", "x_x"]
    with pytest.raises(ReportError, match="found one twice"):
        named(tmp_path, "a/exp/x", "a/exp/x")


def test_levels_are_compared_option_by_option() -> None:
    def soup(weighting: str, value: float) -> dict:
        lower = {"objectives": ["asr/*"], "penalty": "constant", "penalty_conf": {"value": value}}
        levels = [{"objectives": ["st/*"], "weighting": weighting}, lower]
        return {"trainer_conf": {"levels": levels}}

    rows = dict(configuration_differences([soup("modo", 0.5), soup("stch", 0.7)]))
    assert rows == {
        "trainer_conf.levels[1].weighting": ["modo", "stch"],
        "trainer_conf.levels[2].penalty_conf.value": ["0.5", "0.7"],
    }


def test_differences_of_configurations() -> None:
    first = {"seed": 1, "enc": {"n": 2, "d": {}}, "output_dir": "a", "tokens": ["a"] * 60}
    second = {"seed": 1, "enc": {"n": 3, "d": {}}, "output_dir": "b", "tokens": ["b"] * 60}
    second["trainer"] = "objsoup"
    rows = dict(configuration_differences([first, second]))
    assert list(rows) == ["trainer", "enc.n", "tokens"]
    assert rows["trainer"] == ["–", "objsoup"]
    assert rows["enc.n"] == ["2", "3"]
    assert all(text.startswith("60 values (sha256 ") for text in rows["tokens"])
    assert rows["tokens"][0] != rows["tokens"][1]
    assert configuration_differences([first, dict(first)]) == []
    assert flatten({"a": {"b": {"c": 1}}, "d": []}) == {"a.b.c": 1, "d": []}


def test_scores_of_several_runs(tmp_path: Path) -> None:
    first, second = (read_run(make_run(tmp_path / n, epochs=1)) for n in "ab")
    first.scores = {
        "test": {"asr/zh": {"cer": 9.0, "measure": "cer"}, "asr/mean": {"wer": 5.0},
                 "asr/fr": {"wer": 5.0, "cer": 1.0}, "st/fr-en": {"bleu": 20.0}}
    }  # fmt: skip
    second.scores = {"test": {"asr/fr": {"wer": 4.0}, "st/fr-en": {"bleu": 30.0}}}
    rows = [(r.name, r.measure, r.values, r.best) for r in score_rows([first, second])]
    assert rows == [
        ("asr/fr", "WER (%)", [5.0, 4.0], 4.0),
        ("asr/mean", "WER (%)", [5.0, None], None),
        ("asr/zh", "CER (%)", [9.0, None], None),
        ("st/fr-en", "BLEU", [20.0, 30.0], 30.0),
    ]


def test_neither_torch_nor_espnet_is_imported(tmp_path: Path) -> None:
    code = (
        "import json, sys; from espnet_objsoup.bin.report import main\n"
        "status = main(sys.argv[1:]); print(json.dumps(sorted({'torch', 'espnet2'} & "
        "set(sys.modules)))); sys.exit(status)"
    )
    make_run(tmp_path, epochs=1, layers=2)
    command = [sys.executable, "-c", code, str(tmp_path), "--figures", "none"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(finished.stdout.splitlines()[-1]) == []
