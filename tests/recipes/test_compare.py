# SPDX-License-Identifier: Apache-2.0
"""compare.sh, with a stand-in for run.sh that trains nothing."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from .copies import ROOT, copy_recipe

STUB = Path(__file__).parent / "compare_stub.py"
ARMS = "static static_grid flat"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = copy_recipe(tmp_path) / "mini_objsoup"
    shutil.rmtree(path / "results")  # those of the real comparison
    script = f'#!/usr/bin/env bash\nPYTHONPATH={ROOT} exec {sys.executable} {STUB} "$@"\n'
    (path / "run.sh").write_text(script)
    conf = path / "conf" / "train_compare.yaml"
    shorter = yaml.safe_load(conf.read_text()) | {"max_epoch": 8}
    conf.write_text(yaml.safe_dump(shorter))
    return path


def compare(recipe: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(recipe / "compare.sh"), "--report", "false", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def calls(recipe: Path) -> list[str]:
    path = recipe / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_results_table_and_resumption(recipe: Path) -> None:
    done = compare(recipe, "--arms", ARMS, "--seeds", "1 2 3", "--report", "true")
    assert "report_balanced.html" in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    results = recipe / "results" / "balanced"
    names = {f"{arm}_seed{seed}.json" for arm in ARMS.split() for seed in (1, 2, 3)}
    assert {path.name for path in results.iterdir()} == names | {"tradeoff.svg"}
    static = json.loads((results / "static_seed1.json").read_text())
    assert (static["epochs"], static["updates"]) == (8, 80)
    assert static["cpu_seconds"] >= 0.16
    assert static["memory_mb"] > 10
    assert set(static["scores"]) == {"asr/en", "asr/fr", "st/fr-en"}
    grid = json.loads((results / "static_grid_seed1.json").read_text())
    assert (grid["choice"], grid["epochs"], grid["updates"]) == ("static_st", 8, 80)
    last = yaml.safe_load(
        (recipe / "exp_compare/balanced_static_grid_seed1/config.yaml").read_text()
    )
    assert last["trainer_conf"]["weighting_conf"]["weights"]["st/*"] == 2
    assert last["max_epoch"] == 5

    table = (recipe / "results" / "RESULTS.md").read_text()
    rows = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
    assert list(rows) == ARMS.split()
    assert re.search(r"p (< )?0\.00\d \*", rows["flat"])
    assert static["valid"]["asr_en"] == [3.0] * 8
    assert "static_grid_seed1: static_st" in table
    # Of the weights those that were decoded are left.
    left = {p.name for p in (recipe / "exp_compare").glob("balanced_*_seed?/*.pth")}
    assert left == {"latest.pth", "8epoch.pth", "5epoch.pth"}
    assert (recipe / "exp_compare/balanced_flat_seed2/latest.pth").exists()
    assert not list((recipe / "exp_compare").glob("balanced_static_grid_seed1_try_*/*.pth"))

    before = calls(recipe)
    again = compare(recipe, "--arms", ARMS, "--seeds", "1 2 3")
    assert "9 of 9 runs are there" in again.stdout
    assert len(calls(recipe)) == len(before) + 1  # the data are looked at
    assert (recipe / "results" / "RESULTS.md").read_text() == table


def test_trainings_start_from_what_came_before(recipe: Path) -> None:
    done = compare(recipe, "--arms", "two_stage static_grid", "--seeds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    starts = {
        line.split("--tag ")[1].split()[0]: line.split("--init_param ")[1].split()[0]
        for line in calls(recipe)
        if "--init_param" in line
    }
    # Decoding too: the recipe refuses to decode a training that had other options.
    decoded = [line for line in calls(recipe) if "--stage 12" in line]
    assert len(decoded) == 2
    assert all("--init_param" in line for line in decoded)
    assert starts == {
        "balanced_two_stage_seed1": "exp_compare/balanced_two_stage_seed1_before/"
        "latest.pth:encoder:encoder",
        "balanced_static_grid_seed1": "exp_compare/balanced_static_grid_seed1_try_static_st/"
        "latest.pth",
    }
    first = yaml.safe_load(
        (recipe / "exp_compare/balanced_two_stage_seed1_before/config.yaml").read_text()
    )
    assert (first["objectives"], first["ssl"], first["max_epoch"]) == (["ssl"], "cpc", 2)


def test_a_failed_run_is_told_and_stops_no_other(recipe: Path) -> None:
    (recipe / "fail").write_text("balanced_static_seed1")
    failed = compare(recipe, "--arms", "static flat", "--seeds", "1")
    assert failed.returncode == 1
    assert "balanced_static_seed1: FAILED" in failed.stdout
    assert "exit status 3" in failed.stdout
    assert "  the last words of balanced_static_seed1\n" in failed.stdout
    assert "failed: balanced_static_seed1" in failed.stdout
    assert [p.name for p in (recipe / "results/balanced").iterdir()] == ["flat_seed1.json"]
    assert "| `flat` |" in (recipe / "results" / "RESULTS.md").read_text()
    (recipe / "fail").unlink()
    mended = compare(recipe, "--arms", "static flat", "--seeds", "1")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "1 of 2 runs are there" in mended.stdout


def test_data_that_cannot_be_made_stop_no_other_variant(recipe: Path) -> None:
    (recipe / "fail").write_text("data_compare_k3")
    arguments = ["--arms", "static", "--seeds", "1", "--variants", "k3 narrow"]
    failed = compare(recipe, *arguments)
    assert failed.returncode == 1
    assert "  the last words of data_compare_k3\n" in failed.stderr
    assert "failed: k3 (as a whole)" in failed.stdout
    names = [str(p.relative_to(recipe / "results")) for p in recipe.glob("results/*/*.json")]
    assert names == ["narrow/static_seed1.json"]


def test_a_result_of_another_configuration_or_data_is_not_taken(recipe: Path) -> None:
    assert compare(recipe, "--arms", "static", "--seeds", "1").returncode == 0
    conf = recipe / "conf" / "train_compare.yaml"
    conf.write_text(conf.read_text().replace("lr: 0.003", "lr: 0.005"))
    table = compare(recipe, "--table", "true")
    assert table.returncode == 0, table.stderr
    text = (recipe / "results" / "RESULTS.md").read_text()
    assert "Not in the table, being of other configurations or data: balanced/static_seed1" in text
    again = compare(recipe, "--arms", "static", "--seeds", "1")
    assert "is of another configuration: it is replaced" in again.stdout
    assert "0 of 1 runs are there" in again.stdout

    path = recipe / "results/balanced/static_seed1.json"
    path.write_text(path.read_text().replace('"data": "', '"data": "0'))
    assert "is of another data" in compare(recipe, "--arms", "static", "--seeds", "1").stdout


def test_equal_cost_gives_dear_arms_fewer_epochs(recipe: Path) -> None:
    done = compare(recipe, "--arms", "static constrained", "--seeds", "1", "--equal_cost", "true")
    assert done.returncode == 0, done.stdout + done.stderr
    results = recipe / "results" / "balanced_equal_cost"
    static, dear = (
        json.loads((results / f"{arm}_seed1.json").read_text()) for arm in ("static", "constrained")
    )
    assert static["epochs"] == 8
    assert dear["epochs"] < 8  # self-supervision takes the stand-in twice as long
    conf = recipe / "exp_compare/balanced_equal_cost_constrained_seed1/config.yaml"
    soup = yaml.safe_load(conf.read_text())
    step = soup["trainer_conf"]["penalty_conf"]["step"]
    assert step == pytest.approx(0.02 * 200 / dear["epochs"], abs=1e-4)
    again = compare(recipe, "--arms", "static constrained", "--seeds", "1", "--equal_cost", "true")
    assert "calibrate" not in again.stdout
    assert "2 of 2 runs are there" in again.stdout
    assert "## balanced_equal_cost" in (recipe / "results" / "RESULTS.md").read_text()


def test_measured_conflicts_are_in_the_table(recipe: Path) -> None:
    done = compare(recipe, "--arms", "static monitor", "--seeds", "1 2")
    assert done.returncode == 0, done.stdout + done.stderr
    names = {path.name for path in (recipe / "results/balanced").glob("*.json")}
    assert names == {f"{arm}_seed{seed}.json" for arm in ("static", "monitor") for seed in (1, 2)}
    table = (recipe / "results" / "RESULTS.md").read_text()
    assert "| asr/en st/fr-en | -0.50 ± 0.00 |" in table
    assert "1 are below zero by more than two of these" in table
    assert "`monitor` 25 %" in table


def test_dry_run_shows_and_does_nothing(recipe: Path) -> None:
    shown = compare(recipe, "--dry_run", "true", "--arms", "all", "--variants", "all")
    assert shown.returncode == 0, shown.stderr
    assert "--rare de" in shown.stdout
    assert "# balanced_static_grid_seed1: 1 + 1 + 1 + 5 epochs" in shown.stdout
    assert not (recipe / "results").exists() or not list((recipe / "results").glob("*/*.json"))
    assert calls(recipe) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arms", "statik"], "--arms: expected all, a group (main, ablation) or some of static,"),
        (["--variants", "wide"], "--variants: expected all or some of balanced,"),
        (["--seeds", "1 1"], "--seeds: expected distinct whole numbers, found '1 1'"),
        (["--jobs", "0"], "--jobs: expected a whole number of at least 1"),
        (["--no_such", "1"], "unknown option --no_such"),
    ],
    ids=str,
)
def test_usage_errors(recipe: Path, arguments: list[str], message: str) -> None:
    failed = compare(recipe, *arguments)
    assert failed.returncode == 2
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
    assert calls(recipe) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_goes_on_after_it_was_ended(recipe: Path, number: signal.Signals) -> None:
    (recipe / "slow").write_text("1000")
    process = subprocess.Popen(
        [str(recipe / "compare.sh"), "--arms", "static flat", "--seeds", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # Ignored where tests run in the background, which the script would inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    wait_until(lambda: sum("--stage 11" in line for line in calls(recipe)) == 2)
    assert len(stubs(recipe)) == 2
    os.kill(process.pid, number)
    output = process.communicate(timeout=300)[0]
    if number != signal.SIGKILL:
        assert process.returncode == 130, output
        assert "interrupted" in output
    wait_until(lambda: not stubs(recipe))
    assert not list((recipe / "results").glob("*/*.json"))


def stubs(recipe: Path) -> list[int]:
    """Stand-ins of this recipe that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            if str(STUB).encode() in words and (path / "cwd").resolve() == recipe.resolve():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def wait_until(condition: object, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)
