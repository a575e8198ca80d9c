# SPDX-License-Identifier: Apache-2.0
"""The page of `objsoup demo`, driven in headless Chromium as a person would."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import soundfile

from espnet_objsoup.data.synthesis.espeak import Espeak
from espnet_objsoup.inference import Speech2Text
from tests.integration.chromium import chromium, needs_chromium
from tests.ports import free_port
from tests.unit.experiment import make_experiment

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = needs_chromium
SENTENCE = "une belle grand-mère doit connaître le petit roi"  # of the mini corpus
READY_S = 600  # importing ESPnet takes 20 s on a machine that does nothing else


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_experiment(tmp_path_factory.mktemp("exp") / "tiny")


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    espeak = Espeak()
    path = tmp_path_factory.mktemp("audio") / "roi.wav"
    samples = espeak.synthesise(SENTENCE, "fr", "m3", 160, 50, 50)
    soundfile.write(path, samples, espeak.sample_rate_hz)
    return path


@pytest.fixture(scope="module")
def speech2text(experiment: Path) -> Speech2Text:
    return Speech2Text.from_pretrained(experiment / "model.pth")


@pytest.fixture(scope="module")
def url(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a served page."""
    directory = tmp_path_factory.mktemp("serve")
    port = free_port()
    words = ["demo", "--model", f"{experiment}/model.pth", "--port", str(port)]
    environment = {**os.environ, "TMPDIR": str(directory), "OBJSOUP_CACHE": f"{directory}/cache"}
    with open(directory / "log", "w+") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "espnet_objsoup.bin.objsoup", *words],
            stdout=log, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(10 * READY_S):
                if address in (directory / "log").read_text() or server.poll() is not None:
                    break
                time.sleep(0.1)
            assert address in (directory / "log").read_text(), (directory / "log").read_text()
            yield address
        finally:
            server.send_signal(signal.SIGTERM)
            status = server.wait(180)
    assert status == 128 + signal.SIGTERM
    assert "Traceback" not in (directory / "log").read_text()
    assert list(directory.glob("objsoup_demo_*")) == []  # uploads are deleted


@pytest.fixture(scope="module")
def browser_page(url: str, wav: Path) -> Iterator[tuple["Page", list[str]]]:
    """A page of the browser, and all addresses that it has asked for."""
    with chromium(
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={wav}",
    ) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1200})
        page.set_default_timeout(180_000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        yield page, asked


@pytest.fixture
def page(browser_page: tuple["Page", list[str]], url: str) -> "Page":
    page, _ = browser_page
    page.goto(url)
    page.wait_for_selector("#go")
    return page


def upload(page: "Page", path: Path) -> None:
    page.set_input_files("#audio input[type=file]", path)
    page.wait_for_selector("#audio .waveform-container, #audio [data-testid^=waveform]")


def choose(page: "Page", field: str, label: str) -> None:
    page.click(f"#{field} input")
    page.click(f"[role=option]:has-text('{label}')")


def go(page: "Page") -> None:
    page.click("#go")
    page.wait_for_selector("#summary:has-text('s of audio')")


def table(page: "Page", field: str) -> list[list[str]]:
    """Rows of a table, without its head."""
    rows = page.locator(f"#{field} [role=row]:has([role=gridcell])").all()
    return [
        [cell.inner_text().strip() for cell in row.locator("[role=gridcell]").all()] for row in rows
    ]


def test_recognition(page: "Page", wav: Path, speech2text: Speech2Text, tmp_path: Path) -> None:
    expected = speech2text(wav, task="asr", lang="fr", nbest=5, word_times=True)
    assert expected[0].text != ""
    upload(page, wav)
    choose(page, "lang", "fr")
    go(page)
    assert page.input_value("#text textarea") == expected[0].text
    rows = table(page, "hypotheses")
    assert [row[-1] for row in rows] == [result.text for result in expected]
    assert [float(row[1]) for row in rows] == pytest.approx(
        [result.score for result in expected], abs=2e-3
    )
    assert table(page, "words")[0][0] == expected[0].words[0].text
    assert page.locator("#plot img").get_attribute("src").startswith("data:image/")
    page.screenshot(path=tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_translation_of_a_guessed_language(
    page: "Page", wav: Path, speech2text: Speech2Text
) -> None:
    (expected,) = speech2text(wav, task="st", target_lang="en")
    upload(page, wav)
    assert not page.is_visible("#target")
    page.click("#task label:has-text('Translate')")
    page.wait_for_selector("#target", state="visible")
    go(page)
    assert page.input_value("#text textarea") == expected.text
    assert "fr (guessed) to en" in page.inner_text("#summary")
    assert not page.is_visible("#words")


def test_only_languages_of_the_model(page: "Page") -> None:
    page.click("#lang input")
    options = page.locator("[role=option]").all_inner_texts()
    assert [re.sub(r"\W", "", option) for option in options] == ["guessedbythemodel", "en", "fr"]


def test_a_recording(page: "Page") -> None:
    page.click("#audio [aria-label='Record audio'], #audio button[aria-label*=icrophone]")
    begin = time.monotonic()
    page.click("#audio button:has-text('Record')")
    stop = page.wait_for_selector("#audio button:has-text('Stop') >> visible=true")
    page.wait_for_timeout(3000)
    stop.click()
    most = time.monotonic() - begin
    page.wait_for_selector("#audio [data-testid^=waveform], #audio .waveform-container")
    go(page)
    seconds = float(re.search(r"([\d.]+) s of audio", page.inner_text("#summary"))[1])
    assert 1.0 < seconds < most


def test_mistakes_are_told(page: "Page", tmp_path: Path) -> None:
    page.click("#go")
    page.wait_for_selector("text=Record or upload audio first.")
    (tmp_path / "no.wav").write_text("no audio")
    upload(page, tmp_path / "no.wav")
    page.click("#go")
    page.wait_for_selector("text=expected audio that libsndfile reads")


def test_nothing_comes_from_elsewhere(browser_page: tuple["Page", list[str]], url: str) -> None:
    asked = browser_page[1]
    assert len(asked) > 20  # the tests above opened the page
    elsewhere = [one for one in asked if not one.startswith((url, "data:", "blob:"))]
    assert elsewhere == []
