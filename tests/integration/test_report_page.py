# SPDX-License-Identifier: Apache-2.0
"""The page of `objsoup report` as headless Chromium shows it: several runs, no overlaps, dark."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from espnet_objsoup.report.page import make_report
from espnet_objsoup.report.watch import write_report
from tests.integration.chromium import chromium, needs_chromium
from tests.unit.report.made_run import FIVE, FORTY_ONE, make_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_chromium
WIDTHS = (1400, 800)
CASES = ("one", "three", "monitor", "stock", "forty_one")

# Pairs of texts of a figure that cover each other by more than a pixel, and texts that leave it.
OVERLAPS = """() => {
  const found = [];
  document.querySelectorAll("details").forEach(fold => { fold.open = true; });
  for (const svg of document.querySelectorAll("figure > svg")) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")];
    const boxes = texts.map(text => [text, text.getBoundingClientRect()]);
    for (const [i, [text, a]] of boxes.entries()) {
      if (a.left < frame.left - 3 || a.right > frame.right + 3)
        found.push(`${text.textContent} leaves its figure`);
      for (const [other, b] of boxes.slice(i + 1)) {
        const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        // A box has the height of the font, of which digits and letters fill two thirds.
        const line = Math.min(a.height, b.height, a.width, b.width);
        if (width > 1 && height > 1 && Math.min(width, height) > 0.35 * line)
          found.push(`${svg.ariaLabel}: ${text.textContent} | ${other.textContent}`);
      }
    }
  }
  return found;
}"""
# Contrast of texts with the page behind them, after WCAG.
CONTRASTS = """() => {
  const numbers = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const luminance = colour => {
    const [r, g, b] = numbers(colour).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const page = luminance(getComputedStyle(document.body).backgroundColor);
  const ratio = colour => {
    const [low, high] = [luminance(colour), page].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const labels = [...document.querySelectorAll("figure > svg text")]
    .map(text => getComputedStyle(text).fill).filter(fill => fill.startsWith("rgb"));
  const inside = ["rgb(255, 255, 255)", "rgb(32, 32, 32)"];  // numbers in cells
  const lines = [...document.querySelectorAll(".legend line")].map(l => getComputedStyle(l).stroke);
  return {
    labels: Math.min(...labels.filter(fill => !inside.includes(fill)).map(ratio)),
    text: ratio(getComputedStyle(document.querySelector("section > p")).color),
    lines: Math.min(...lines.map(ratio)),
  };
}"""


def make_case(root: Path, case: str) -> list[Path]:
    """Experiments of a page."""
    monitor = {"recipe": "static", "monitor": True}
    if case == "one":
        return [make_run(root / "train_flat", epochs=3)]
    if case == "three":
        conf = {"recipe": "bilevel", "order": "as", "layers": {"policy": "last_k"}}
        last = make_run(root / "train_bilevel_as", FIVE, conf, levels=2, scores=False)
        runs = [make_run(root / f"train_{n}", seed=i, epochs=3) for i, n in enumerate(["a", "b"])]
        return [*runs, last]
    if case == "monitor":
        return [make_run(root / "train_monitor", trainer_conf=monitor, scores=False)]
    if case == "stock":  # ESPnet's configuration has no objectives, and here no TensorBoard
        names = ("asr/ctc", "asr/att", "st/att")
        run = make_run(root / "st_train_x", names, monitor, statistics=False, scores=False)
        conf = yaml.safe_load((run / "config.yaml").read_text())
        del conf["objectives"]
        (run / "config.yaml").write_text(yaml.safe_dump(conf))
        return [run]
    return [make_run(root / "train_covost2", FORTY_ONE, epochs=2, layers=18)]


class Pages(dict[str, Path]):
    """Pages of the cases, made when they are first asked for."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        super().__init__()
        self.factory = factory

    def __missing__(self, case: str) -> Path:
        root = self.factory.mktemp(case)
        self[case] = root / "report.html"
        write_report(make_report(make_case(root, case)), self[case])
        return self[case]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    return Pages(tmp_path_factory)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as browser:
        yield browser


def open_page(browser: "Browser", path: Path, width: int, **options: str) -> "Page":
    """A page that fails the test on any error of its own and any request."""
    page = browser.new_page(viewport={"width": width, "height": 1000}, **options)
    page.set_default_timeout(180_000)
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("request", lambda request: page.faults.append(request.url))
    page.goto(path.as_uri())
    assert page.faults == [path.as_uri()]
    return page


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", CASES)
def test_figures_can_be_read(
    browser: "Browser", pages: Pages, case: str, width: int, tmp_path: Path
) -> None:
    page = open_page(browser, pages[case], width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(OVERLAPS) == []
    sizes = page.evaluate(
        "[...document.querySelectorAll('figure > svg')].map(s => s.getBoundingClientRect().width)"
    )
    assert len(sizes) >= 6
    assert min(sizes) > 300
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert (tmp_path / "page.png").stat().st_size > 50_000
    page.close()


def test_runs_stand_side_by_side(browser: "Browser", pages: Pages) -> None:
    page = open_page(browser, pages["three"], 1400)
    figures = page.locator("#losses figure")
    assert figures.locator("figcaption").all_inner_texts() == ["a", "b", "bilevel_as"]
    boxes = [figure.bounding_box() for figure in figures.all()]
    assert len({box["y"] for box in boxes}) == 1
    assert len({round(box["width"]) for box in boxes}) == 1
    page.close()


def test_overlaps_are_found_where_there_are_some(browser: "Browser", pages: Pages) -> None:
    page = open_page(browser, pages["one"], 1400)
    page.add_style_tag(content="#losses figure svg text { font-size: 40px !important; }")
    found = page.evaluate(OVERLAPS)
    assert any(text.startswith("Losses: ") for text in found)
    page.close()


def test_dark_and_light_can_be_read(browser: "Browser", pages: Pages) -> None:
    for scheme in ("light", "dark"):
        page = open_page(browser, pages["three"], 1400, color_scheme=scheme)
        contrasts = page.evaluate(CONTRASTS)
        assert contrasts["labels"] > 7
        assert contrasts["text"] > 4.5
        assert contrasts["lines"] > 2  # Okabe and Ito's orange on white has 2.2
        page.close()


def test_a_watched_page_loads_itself_again(browser: "Browser", tmp_path: Path) -> None:
    run = make_run(tmp_path / "exp", epochs=2, layers=2)
    path = tmp_path / "page.html"
    report = make_report([run], reload_s=2.0)
    path.write_text(report.html)
    page = browser.new_page()
    page.set_default_timeout(180_000)
    # Its time passes when the test says so: it does not load itself in the middle of something.
    page.add_init_script(
        "const later = setTimeout;"
        "window.setTimeout = (work, ms) => { window.pass = passed => passed >= ms && later(work); }"
    )

    def pass_seconds(seconds: float) -> None:
        with page.expect_navigation():
            page.evaluate("ms => { pass(ms); }", 1000 * seconds)

    page.goto(path.as_uri())
    page.click("summary")
    path.write_text(report.html.replace("<h1>Soup report</h1>", "<h1>Written again</h1>"))
    pass_seconds(2.0)
    assert page.inner_text("h1") == "Written again"
    assert page.locator("details").first.evaluate("fold => fold.open")  # as it was left
    path.write_text(report.at_rest)
    pass_seconds(2.0)
    assert page.inner_text("h1") == "Soup report"
    assert page.locator("script").count() == 0
    page.close()
