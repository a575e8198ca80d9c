# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from espnet_objsoup.comparison import table
from espnet_objsoup.comparison.current import read_variants
from espnet_objsoup.comparison.fingerprint import config_fingerprint
from espnet_objsoup.comparison.plan import Comparison
from espnet_objsoup.comparison.result import Result, ResultError, load
from espnet_objsoup.comparison.tradeoff import can_be_drawn, front, tradeoff_svg
from espnet_objsoup.comparison.trainings import trainings_of

DECODING = {"beam_size": 5}


@pytest.fixture
def comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    monkeypatch.chdir(tmp_path)
    conf = {
        "config": "train.yaml",
        "reference": "static",
        "variants": {"v": {}},
        "arms": {"static": {}, "soup": {"conf": {"trainer": "objsoup"}}},
    }
    Path("train.yaml").write_text("max_epoch: 4\n")
    Path("compare.yaml").write_text(yaml.safe_dump(conf))
    return Comparison.read(Path("compare.yaml"))


def result(comparison: Comparison, arm: str, seed: int, errors: int, **more: object) -> Result:
    """20 utterances of 10 words with so many errors each."""
    trainings = trainings_of(comparison, comparison.variants["v"], comparison.arms[arm], seed)
    values = {
        "variant": "v", "arm": arm, "seed": seed, "data": "d", "commit": "c", "machine": "m",
        "config": config_fingerprint(trainings, DECODING),
        "scores": {
            "asr/de": {"wer": 10.0 * errors, "sentences": 20},
            "st/de-en": {"bleu": 100.0, "chrf": 100.0, "sentences": 20},
        },
        "utterances": {
            "asr/de": {"test": "t", "counts": ";".join([f"{errors} 10"] * 20)},
            "st/de-en": {"test": "t", "counts": ";".join(["5 5 5 4 3 2"] * 20)},
        },
        "epochs": 4, "updates": 400, "cpu_seconds": 60.0, "decode_cpu_seconds": 6.0,
        "wall_seconds": 70.0, "memory_mb": 500.0,
    }  # fmt: skip
    return Result(**{**values, **more})


def render(results: Path, comparison: Comparison, decoding: dict) -> str:
    return table.render(read_variants(results, comparison, decoding), comparison)


def row(text: str, arm: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| `{arm}`")]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_means_deviations_and_differences(comparison: Comparison, tmp_path: Path) -> None:
    for seed, static, soup in ((1, 2, 1), (2, 4, 3)):
        result(comparison, "static", seed, static).save(tmp_path)
        result(comparison, "soup", seed, soup, cpu_seconds=120.0, memory_mb=600.0).save(tmp_path)
    text = render(tmp_path, comparison, DECODING)
    assert row(text, "static") == [
        "`static`", "2", "30.0 ± 14.1", "30.0 ± 14.1", "-", "100.0 ± 0.0", "100.0 ± 0.0", "-",
        "4", "400", "1.0 ± 0.0", "500",
    ]  # fmt: skip
    soup = row(text, "soup")
    # Every utterance of every seed is better by the same number of words; two seeds are no test.
    assert soup[4] == "-10.0 (-10.0, -10.0)"
    assert soup[7] == "+0.0 (+0.0, +0.0)"
    assert soup[10:] == ["2.0 ± 0.0", "600"]
    assert "6 minutes of training" in text
    assert "- runs: 4" in text


def test_stars(comparison: Comparison, tmp_path: Path) -> None:
    for seed, static, soup in ((1, 5, 2), (2, 6, 2), (3, 5, 3)):
        result(comparison, "static", seed, static).save(tmp_path)
        result(comparison, "soup", seed, soup).save(tmp_path)
    soup = row(render(tmp_path, comparison, DECODING), "soup")
    assert re.fullmatch(r"-30\.0 \[-43\.\d, -16\.\d\] \(-30\.0, -30\.0\), p 0\.003 \*", soup[4])
    assert soup[7] == "+0.0 (+0.0, +0.0)"  # no seed deviates: nothing to test against


def test_only_seeds_in_common_are_compared(comparison: Comparison, tmp_path: Path) -> None:
    result(comparison, "static", 1, 2).save(tmp_path)
    result(comparison, "soup", 2, 1).save(tmp_path)
    assert row(render(tmp_path, comparison, DECODING), "soup")[4] == "-"


def test_other_data_and_configurations_are_left_out(comparison: Comparison, tmp_path: Path) -> None:
    result(comparison, "static", 1, 2).save(tmp_path)
    result(comparison, "static", 2, 2, config="other").save(tmp_path)
    result(comparison, "soup", 1, 2, data="other").save(tmp_path)
    text = render(tmp_path, comparison, DECODING)
    assert "Of other data, and not in the table: soup_seed1." in text
    assert "configurations or data: v/static_seed2.json." in text
    assert row(text, "static")[1] == "1"
    assert "| `soup`" not in text


def test_cosines(comparison: Comparison, tmp_path: Path) -> None:
    for seed, conflict in ((1, -0.3), (2, -0.4), (3, -0.5)):
        scans = [
            {"epoch": epoch, "scores": {"encoder.encoders.0": value / 2}, "errors": {},
             "cosines": {"a b": {"encoder.encoders.0": value}, "a c": {"encoder.encoders.0": 0.3}}}
            for epoch, value in ((1, 0.9), (4, conflict), (7, conflict))
        ]  # fmt: skip
        result(comparison, "static", seed, 2, soup={"scans": scans, "conflict": 0.5}).save(tmp_path)
    lines = render(tmp_path, comparison, DECODING).splitlines()
    # The first scan, of a model that knows nothing yet, is left out.
    assert "| a b | -0.40 ± 0.06 |" in lines
    assert "| a c | +0.30 ± 0.00 |" in lines
    assert "| mean over pairs | -0.20 ± 0.03 |" in lines
    at = lines.index("| epoch | 1 | 4 | 7 |")
    assert lines[at + 2] == "| block 0 | +0.45 ± 0.00 | -0.20 ± 0.03 | -0.20 ± 0.03 |"
    (words,) = [line for line in lines if line.startswith("Cosines of")]
    assert "in `static`, mean over scans in epochs 4, 7 and 3 seeds" in words
    assert "of 2, 1 are below zero by more than two of these, 1 above" in words


def test_epochs_that_all_seeds_scanned(comparison: Comparison, tmp_path: Path) -> None:
    for seed, epochs in ((1, (1, 4)), (2, (1, 4, 7))):
        scans = [
            {"epoch": epoch, "scores": {"x": 0.1}, "errors": {}, "cosines": {"a b": {"x": 0.1}}}
            for epoch in epochs
        ]
        result(comparison, "static", seed, 2, soup={"scans": scans}).save(tmp_path)
    lines = render(tmp_path, comparison, DECODING).splitlines()
    assert (
        lines[lines.index("| epoch | 1 | 4 |") + 2] == "| block x | +0.10 ± 0.00 | +0.10 ± 0.00 |"
    )


def test_one_seed_has_no_error(comparison: Comparison, tmp_path: Path) -> None:
    scans = [{"epoch": 1, "scores": {"x": None}, "errors": {}, "cosines": {"a b": {"x": -0.2}}}]
    result(comparison, "static", 1, 2, soup={"scans": scans}).save(tmp_path)
    lines = render(tmp_path, comparison, DECODING).splitlines()
    assert "| a b | -0.20 |" in lines
    assert "| mean over pairs | - |" in lines


def test_results_of_other_utterances_are_refused(comparison: Comparison, tmp_path: Path) -> None:
    result(comparison, "static", 1, 2).save(tmp_path)
    made = result(comparison, "soup", 1, 2)
    others = {name: {**of, "test": "u"} for name, of in made.utterances.items()}
    dataclasses.replace(made, utterances=others).save(tmp_path)
    with pytest.raises(ResultError, match="found others in soup_seed1 than in static_seed1"):
        render(tmp_path, comparison, DECODING)


def test_the_front() -> None:
    points = {"a": (10.0, 20.0), "b": (12.0, 30.0), "c": (11.0, 19.0), "d": (12.0, 25.0)}
    assert front(points) == ["a", "b"]


def test_the_figure(comparison: Comparison, tmp_path: Path) -> None:
    result(comparison, "static", 1, 2).save(tmp_path)
    (alone,) = read_variants(tmp_path, comparison, DECODING)
    assert not can_be_drawn(alone.by_arm)
    assert "tradeoff.svg" not in render(tmp_path, comparison, DECODING)
    result(comparison, "soup", 1, 1).save(tmp_path)
    (variant,) = read_variants(tmp_path, comparison, DECODING)
    text = tradeoff_svg(variant.by_arm).decode()
    ElementTree.fromstring(text)
    assert tradeoff_svg(variant.by_arm).decode() == text
    assert "soup (front)" in text
    assert "static (front)" not in text
    assert "(v/tradeoff.svg)" in render(tmp_path, comparison, DECODING)


def test_without_results(comparison: Comparison, tmp_path: Path) -> None:
    assert "No run has finished." in render(tmp_path, comparison, DECODING)


def test_a_result_is_read_as_it_was_written(comparison: Comparison, tmp_path: Path) -> None:
    made = result(comparison, "static", 1, 2)
    assert load(made.save(tmp_path)) == made
    assert dataclasses.replace(made, seed=2).name == "static_seed2"


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2}, {"seed": 2}, {"scores": {"asr/de": {}}}, {"more": 1},
        {"utterances": {"asr/de": {"counts": "1 2 3"}}}, {"utterances": 3},
    ],
    ids=str,
)  # fmt: skip
def test_files_that_are_no_results(
    comparison: Comparison, tmp_path: Path, change: dict[str, object]
) -> None:
    path = result(comparison, "static", 1, 2).save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ResultError, match=r"static_seed1\.json: expected a result"):
        load(path)
    path.write_text("{")
    with pytest.raises(ResultError, match="expected a result"):
        load(path)
