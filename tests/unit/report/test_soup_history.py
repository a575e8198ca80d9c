# SPDX-License-Identifier: Apache-2.0
import json
import math
from pathlib import Path

import numpy as np
import pytest

from espnet_objsoup.report.series import ReportError, Series, common_start
from espnet_objsoup.report.soup_history import read_soup_history

from .made_run import FIVE, refresh, scan


def lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def made(count: int = 3) -> list[dict]:
    rng = np.random.default_rng(1)
    found = [refresh(rng, FIVE, 2, step + 1, 1) for step in range(count)]
    return [*found, scan(rng, FIVE, 2, count, 1)]


def test_thinning_keeps_means_and_ends() -> None:
    steps = np.arange(1000.0)
    values = np.sin(steps)
    values[100:110] = np.nan
    thin = Series(steps, values).thinned(100)
    assert len(thin) == 100
    assert np.isnan(thin.values[10])  # a bin in which nothing is known
    expected = values.reshape(100, 10)
    known = [i for i in range(100) if i != 10]
    np.testing.assert_allclose(thin.values[known], expected.mean(1)[known])
    np.testing.assert_allclose(thin.steps, steps.reshape(100, 10).mean(1))


def test_uneven_bins_hold_every_point_once() -> None:
    values = np.random.default_rng(1).normal(size=1237)
    thin = Series(np.arange(1237.0), values).thinned(300)
    sizes = np.diff(np.append(np.linspace(0, 1237, 301).astype(int)[:-1], 1237))
    assert (thin.values * sizes).sum() == pytest.approx(values.sum())


def test_short_series_are_not_touched() -> None:
    series = Series(np.arange(10.0), np.arange(10.0))
    assert series.thinned(10) is series
    assert series.tail_mean(0.2) == 8.5
    assert Series(np.arange(2.0), np.array([1.0, math.nan])).last == 1.0


def test_what_names_have_in_common() -> None:
    assert common_start(["encoder.encoders.0", "encoder.encoders.11"], ".") == "encoder.encoders."
    assert common_start(["train_flat", "train_flat_2"], "_/") == "train_"
    assert common_start(["ab", "ac"], "_") == ""


def test_values_are_those_of_the_lines(tmp_path: Path) -> None:
    values = made()
    del values[0]["soup_conflict/1"]
    values[1]["losses"]["asr/fr"] = None
    skipped = {"kind": "skipped", "step": 3, "epoch": 1, "causes": {"asr/fr": ["u1"]}}
    (tmp_path / "soup.jsonl").write_text(lines(*values, skipped))
    history = read_soup_history(tmp_path / "soup.jsonl")
    assert (history.refreshes, history.skipped, history.causes) == (3, 1, {"asr/fr": 1})
    assert (history.steps, history.epoch, history.unfinished) == (3, 1, False)
    norm = history.series["soup_grad_norm/asr/en"]
    assert norm.steps.tolist() == [1, 2, 3]
    assert norm.values.tolist() == [line["soup_grad_norm/asr/en"] for line in values[:3]]
    assert np.isnan(history.series["soup_conflict/1"].values).tolist() == [True, False, False]
    assert np.isnan(history.series["loss/asr/fr"].values).tolist() == [False, True, False]
    assert history.names("soup_weight/") == list(FIVE)


def test_where_other_layers_were_selected(tmp_path: Path) -> None:
    values = made(6)
    selected = ((0, 1), (0, 1), (0, 0), (1, 0), (1, 0), (1, 1))
    for line, (first, last) in zip(values, selected, strict=False):
        line["soup_selected/encoder.encoders.0"] = float(first)
        line["soup_selected/encoder.encoders.1"] = float(last)
    (tmp_path / "soup.jsonl").write_text(lines(*values))
    assert read_soup_history(tmp_path / "soup.jsonl").selection_changes() == [4.0, 6.0]
    (tmp_path / "soup.jsonl").write_text(lines(*made(4)))
    assert read_soup_history(tmp_path / "soup.jsonl").selection_changes() == []


def test_scans_have_no_cosines_where_nothing_counts(tmp_path: Path) -> None:
    (tmp_path / "soup.jsonl").write_text(lines(*made()))
    (found,) = read_soup_history(tmp_path / "soup.jsonl").scans
    written = made()[-1]
    assert np.isnan(found.cosines[0, 0, 1])
    assert np.isnan(found.cosines[:, range(5), range(5)]).all()
    assert found.cosines[1, 0, 1] == written["cosines"][1][0][1]
    assert found.selected == written["selected"]


def test_the_last_line_may_be_unfinished(tmp_path: Path) -> None:
    text = lines(*made())
    for cut in (1, 40, 200):
        (tmp_path / "soup.jsonl").write_text(text[:-cut])
        history = read_soup_history(tmp_path / "soup.jsonl")
        # Without its newline a line is whole already.
        assert (history.refreshes, len(history.scans)) == (3, int(cut == 1))
        assert history.unfinished == (cut > 1)


def test_no_other_line_may_be_damaged(tmp_path: Path) -> None:
    first, second, *rest = lines(*made()).splitlines(keepends=True)
    path = tmp_path / "soup.jsonl"
    path.write_text(first + second[:50] + "\n" + "".join(rest))
    with pytest.raises(ReportError, match=r"soup.jsonl:2: expected a JSON object.*last"):
        read_soup_history(path)


@pytest.mark.parametrize(
    "damage",
    [
        {"step": None}, {"step": "x"}, {"kind": "scan"}, {"kind": "skipped"}, {"losses": [1.0]},
        {"soup_weight/asr/de": "much"},
    ],
)  # fmt: skip
def test_a_line_of_something_else(tmp_path: Path, damage: dict) -> None:
    values = made()
    values[1] |= damage
    (tmp_path / "soup.jsonl").write_text(lines(*values))
    with pytest.raises(ReportError, match=r"soup.jsonl:2: expected a line of a soup"):
        read_soup_history(tmp_path / "soup.jsonl")


def test_cosines_of_another_shape(tmp_path: Path) -> None:
    values = made()
    values[-1]["cosines"] = values[-1]["cosines"][:1]
    (tmp_path / "soup.jsonl").write_text(lines(*values))
    with pytest.raises(ReportError, match=r":4: .*shape"):
        read_soup_history(tmp_path / "soup.jsonl")


def test_it_reads_what_training_writes(tmp_path: Path) -> None:
    import torch

    from espnet_objsoup.gradients.layer_selection import Scan
    from espnet_objsoup.train.soup_log import SoupLog

    log = SoupLog(tmp_path)
    log.write("refresh", 1, 1, {"losses": {"ssl": math.inf}, "layers": [], "soup_weight/ssl": 0.5})
    cosines = torch.tensor([[[1.0, -0.5], [-0.5, 1.0]]], dtype=torch.float64)
    counted = ~torch.eye(2, dtype=torch.bool)[None]
    nan = torch.full((1,), torch.nan, dtype=torch.float64)
    scores = torch.tensor([-0.5], dtype=torch.float64)
    log.write_scan(Scan(1, cosines, counted, scores, nan, scores, (0,)), 1, ["l"], ["ssl", "asr/a"])
    log.write("skipped", 1, 1, {"causes": {"gradient": ["u"]}})
    history = read_soup_history(tmp_path / "soup.jsonl")
    assert history.series["soup_weight/ssl"].values.tolist() == [0.5]
    assert not history.series["loss/ssl"].known
    (found,) = history.scans
    assert (found.objectives, found.layers, found.selected) == (["ssl", "asr/a"], ["l"], ["l"])
    assert found.cosines[0, 0, 1] == -0.5
    assert np.isnan(found.errors[0])
    assert history.causes == {"gradient": 1}
