# SPDX-License-Identifier: Apache-2.0
"""Text and figures of the page; tests/integration/test_report_page.py looks at it."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import yaml

from espnet_objsoup.bin.report import default_output, main
from espnet_objsoup.report.cosine_section import worst
from espnet_objsoup.report.cosines import (
    CosineMap,
    chosen_scans,
    pair_map,
    short_layers,
    worst_pairs,
)
from espnet_objsoup.report.curves import Curve, CurvePanel, common_scale
from espnet_objsoup.report.page import Report, make_report
from espnet_objsoup.report.run_data import read_run
from espnet_objsoup.report.series import Series
from espnet_objsoup.report.soup_history import ScanRecord
from espnet_objsoup.report.style import COLOURS, MOST_LINES, Stroke, shortened, strokes
from espnet_objsoup.report.watch import write_report

from .made_run import FIVE, FORTY_ONE, make_run

SVG = re.compile(r"<svg .*?</svg>", re.DOTALL)
PNG = b"\x89PNG"


def scan_of(cosines: np.ndarray, epoch: int = 1) -> ScanRecord:
    n, k, _ = cosines.shape
    names = [f"asr/{i:02}" for i in range(k)]
    layers = [f"encoder.encoders.{i}" for i in range(n)]
    return ScanRecord(epoch, epoch, names, layers, layers[:1], np.zeros(n), np.zeros(n), cosines)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("exp")
    monitor = {"recipe": "static", "monitor": True}
    bilevel = {"recipe": "bilevel", "layers": {"policy": "last_k"}}
    return [
        make_run(root / "train_monitor", trainer_conf=monitor, epochs=2, layers=2),
        make_run(
            root / "train_bilevel",
            FIVE[:4],
            bilevel,
            epochs=2,
            layers=2,
            levels=2,
            scores=False,
        ),
    ]


@pytest.fixture(scope="module")
def report(runs: list[Path]) -> Report:
    return make_report(runs, ("png", "svg"))


def test_one_file_is_the_whole_page(report: Report) -> None:
    assert report.html.startswith("<!doctype html>")
    assert "Content-Security-Policy" in report.html
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', report.html) == []
    assert "@import" not in report.html
    assert "<script" not in report.html
    for title in (
        "Overview", "Scores", "Losses", "Conflict rate", "Cosines between objectives",
        "Gradient norms", "Weights", "Penalties of levels", "Coefficients of objectives",
        "Step time", "Configuration",
    ):  # fmt: skip
        assert f"<h2>{title}</h2>" in report.html


def test_numbers_of_the_runs_are_in_it(report: Report, runs: list[Path]) -> None:
    monitor = read_run(runs[0])
    wer = monitor.scores["test"]["asr/mean"]["wer"]
    assert f"<td>{wer:.1f}</td>" in report.html
    assert "bilevel: not scored yet (no scores.json" in report.html
    assert "<th>trainer_conf.recipe</th><td>static</td><td>bilevel</td>" in report.html
    assert "epoch 2 of 2, 100 steps, finished" in report.html
    assert "<title>level 2: last 0.5</title>" in report.html
    last = monitor.soup.series["soup_weight/asr/de"].last
    assert f"<title>asr/de: last {last:.4g}</title>" in report.html


def test_svg_is_well_formed_and_ids_are_its_own(report: Report) -> None:
    figures = SVG.findall(report.html)
    assert len(figures) > 15
    seen: set[str] = set()
    for svg in figures:
        ET.fromstring(svg.replace("xlink:href", "href"))
        ids = re.findall(r' id="([^"]+)"', svg)
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= set(ids)
        assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= set(ids)


def test_an_objective_has_one_colour(report: Report) -> None:
    found: dict[str, set[str]] = {}
    for title, colour in re.findall(
        r"<title>((?:asr|st)/[\w-]+): last [^<]*</title><path [^>]*?stroke: (#\w{6})", report.html
    ):
        found.setdefault(title, set()).add(colour.upper())
    expected = strokes(FIVE)
    assert {name: {expected[name].colour} for name in FIVE} == found
    assert len({stroke.colour for stroke in expected.values()}) == 5


def test_strokes_differ() -> None:
    found = strokes([str(i) for i in range(MOST_LINES)])
    assert len({(s.colour, s.css_dash) for s in found.values()}) == MOST_LINES
    assert found["0"].css_dash == "none"
    assert found[str(len(COLOURS))].css_dash == "8 3"


def test_files_of_figures(report: Report) -> None:
    names = {"losses", "scores", "conflicts", "cosines", "weights", "penalties", "step_time"}
    assert {f"{name}.{form}" for name in names for form in ("png", "svg")} <= set(report.figures)
    for name, content in report.figures.items():
        assert content.startswith(PNG if name.endswith("png") else b"<?xml"), name
    assert b"asr/fr" in report.figures["losses.svg"]  # the legend is in the file


def test_missing_parts_are_told(tmp_path: Path) -> None:
    conf = {"trainer": "objsoup", "trainer_conf": {"recipe": "flat"}, "objectives": list(FIVE)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(conf))
    html = make_report([tmp_path]).html
    assert html.count('class="missing">Nothing yet; the first line of soup.jsonl') == 5
    for text in (
        "Not scored yet", "No statistics of TensorBoard", "No scan yet", "No times without"
    ):  # fmt: skip
        assert text in html
    assert "<figure>" not in html


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    bad = "asr/<script>alert(1)</script>"
    run = make_run(tmp_path / "<b>&amp;", (bad, "asr/de", "asr/en"), epochs=1, layers=2)
    conf = yaml.safe_load((run / "config.yaml").read_text())
    conf["trainer"] = "default"  # of ours, names are checked
    del conf["trainer_conf"]
    (run / "config.yaml").write_text(yaml.safe_dump(conf))
    html = make_report([run]).html
    assert "<script>" not in html
    assert "<b>&amp;" not in html
    assert "asr/&lt;script&gt;alert(1)" in html
    assert html.count("&lt;b&gt;&amp;amp;") >= 2


def test_forty_one_objectives_are_maps_and_no_legend(tmp_path: Path) -> None:
    html = make_report([make_run(tmp_path, FORTY_ONE, epochs=2, steps=20, layers=3)]).html
    weights = html.partition('<section id="weights"')[2].partition("</section>")[0]
    (svg,) = SVG.findall(weights)
    assert all(f">{name}</text>" in svg for name in FORTY_ONE)
    assert 'class="legend"' not in weights
    assert "40 of 820 pairs are shown" in html
    assert len(html) < 3_000_000


def test_a_map_has_the_means_of_its_bins() -> None:
    values = np.linspace(1.0, 2.0, 200)
    curves = [
        Curve(f"asr/{i:02}", Series(np.arange(200.0), (i + 1) * values), Stroke("#000000"))
        for i in range(MOST_LINES + 1)
    ]
    panel = CurvePanel(curves, "weight")
    common_scale([panel])
    assert panel.is_map
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    panel.draw(axes)
    mesh = axes.collections[0].get_array()
    assert mesh.shape == (MOST_LINES + 1, 60)
    np.testing.assert_allclose(mesh[1], 2 * mesh[0])
    assert mesh[0].mean() == pytest.approx(1.5, abs=0.01)


def test_scales_are_those_of_all_runs() -> None:
    stroke = Stroke("#000000")
    panels = [
        CurvePanel([Curve("a", Series(np.arange(3.0) * n, np.arange(3.0) + n), stroke)], "y")
        for n in (1, 5)
    ]
    common_scale(panels)
    assert panels[0].limits == panels[1].limits
    assert panels[0].limits[1] > 7
    assert panels[0].x_end == panels[1].x_end >= 10
    assert not panels[0].log
    common_scale(panels, log=True)
    assert panels[0].log
    assert 0 < panels[0].limits[0] < 1 < 7 < panels[0].limits[1]


def test_of_too_many_pairs_the_worst_are_shown() -> None:
    cosines = np.full((2, 10, 10), 0.5)
    cosines[1, 3, 7] = cosines[1, 7, 3] = -0.9
    cosines[0, 2, 4] = cosines[0, 4, 2] = -0.3
    cosines[:, 0, 1] = cosines[:, 1, 0] = np.nan
    scan = scan_of(cosines)
    assert worst_pairs([scan_of(np.full((2, 10, 10), 0.5)), scan], most=2) == [(3, 7), (2, 4)]
    assert len(worst_pairs([scan])) == 40
    assert (0, 1) not in worst_pairs([scan])
    assert worst(scan) == [
        "asr/03 · asr/07 in encoder.encoders.1: -0.90",
        "asr/02 · asr/04 in encoder.encoders.0: -0.30",
    ]
    assert worst(scan_of(np.full((1, 3, 3), 0.1))) == ["no pair has a cosine below 0"]


def test_a_map_of_pairs() -> None:
    cosines = np.random.default_rng(1).uniform(-1, 1, (3, 4, 4))
    found = pair_map(scan_of(cosines), [(0, 2), (1, 3)], details=True)
    np.testing.assert_array_equal(found.values, [cosines[:, 0, 2], cosines[:, 1, 3]])
    assert found.rows == ["asr/00 · asr/02", "asr/01 · asr/03"]
    assert found.columns == ["0", "1", "2"]
    assert found.marked[:, 0].all()
    assert not found.marked[:, 1:].any()


def test_cells_have_the_colours_of_their_cosines() -> None:
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    found = CosineMap(np.array([[-1.0, 1.0, np.nan]]), ["a"], ["0", "1", "2"], "layer")
    axes = Figure().subplots()
    found.draw(axes)
    cells = {p.get_gid(): p.get_facecolor() for p in axes.patches if isinstance(p, Rectangle)}
    assert cells["hover-0-0"] == pytest.approx(colormaps["RdBu"](0.0))
    assert cells["hover-0-1"] == pytest.approx(colormaps["RdBu"](1.0))
    assert cells["hover-0-2"][3] == 0  # the grey behind it is seen
    assert found.titles["hover-0-2"] == "a, 2: too little data"
    assert [text.get_text() for text in axes.texts] == ["−1.00", "1.00"]


def test_scans_are_chosen_evenly() -> None:
    scans = [scan_of(np.zeros((1, 2, 2)), epoch) for epoch in range(1, 12)]
    assert [scan.epoch for scan in chosen_scans(scans, 3)] == [1, 6, 11]
    assert [scan.epoch for scan in chosen_scans(scans, 1)] == [11]
    assert chosen_scans(scans, 20) == scans


def test_long_labels_are_shortened() -> None:
    assert shortened("asr/fr", 6) == "asr/fr"
    assert shortened("asr/french", 7) == "asr…nch"
    assert {len(shortened("x" * 50, most)) for most in (7, 8)} == {7, 8}


def test_layers_without_what_all_begin_with() -> None:
    assert short_layers(["e.0.a", "e.1.a"]) == (["0.a", "1.a"], "e.")
    assert short_layers(["frontend", "encoder"]) == (["frontend", "encoder"], "")
    assert short_layers(["e.0"]) == (["e.0"], "")


def test_files_are_written_beside_the_page(report: Report, tmp_path: Path) -> None:
    made = write_report(report, tmp_path / "new" / "page.html")
    assert made == f"{tmp_path}/new/page.html and {len(report.figures)} figures in " + (
        f"{tmp_path}/new/page_figures"
    )
    assert (tmp_path / "new" / "page.html").read_text() == report.html
    written = {p.name: p.read_bytes() for p in (tmp_path / "new" / "page_figures").iterdir()}
    assert written == report.figures


def test_the_command_writes_into_the_experiment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = {"objectives": list(FIVE), "trainer": "objsoup"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(conf))
    assert main([str(tmp_path), "--figures", "svg"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/report.html (")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "report.html"]


def test_where_the_page_of_several_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_output([Path("exp/a")]) == Path("exp/a/report.html")
    assert default_output([Path("exp/a"), Path("exp/b")]) == Path("exp/report.html")
    assert default_output([tmp_path / "x/exp/a", Path("y/exp/a")]) == Path("report.html")


def test_mistakes_are_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/none: expected an experiment")
    assert main([str(tmp_path / "none"), "--watch", "1"]) == 1
    for words in ([], ["x", "--output", "x.txt"], ["x", "--watch", "0"]):
        with pytest.raises(SystemExit, match="2"):
            main(words)
    assert not (tmp_path / "none").exists()
