# SPDX-License-Identifier: Apache-2.0
"""`objsoup report --watch` beside a training that writes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from espnet_objsoup.report.watch import watch

from .made_run import FIVE, make_run, refresh

PATIENCE_S = 300  # for machines that do other things too


def wait_for(what: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen, Path]]:
    """An experiment, the command that watches it and its output."""
    experiment = make_run(tmp_path / "exp", epochs=1, steps=10, layers=2)
    command = [sys.executable, "-m", "espnet_objsoup.bin.report", str(experiment), "--watch", "1"]
    log = tmp_path / "log"
    with open(log, "w") as file:
        # As in the background of a script, where SIGINT is ignored.
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    try:
        yield experiment, process, log
    finally:
        process.kill()
        process.wait()


def test_the_page_follows_the_training(watched: tuple[Path, subprocess.Popen, Path]) -> None:
    experiment, process, log = watched
    page, soup = experiment / "report.html", experiment / "soup.jsonl"
    wait_for(page.exists, process, log)
    wait_for(lambda: "report.html" in log.read_text(), process, log)
    assert "location.reload()" in page.read_text()
    assert "10 steps, finished" in page.read_text()

    line = json.dumps(refresh(np.random.default_rng(2), FIVE, 2, 12, 2)) + "\n"
    with open(soup, "a") as file:
        file.write(line + line[:30])  # the second is being written
    wait_for(lambda: "12 steps" in page.read_text(), process, log)

    with open(soup, "a") as file:
        file.write("\n" + line)  # now the middle is damaged: told, the page stays
    wait_for(lambda: "not written again" in log.read_text(), process, log)
    number = soup.read_bytes().count(b"\n") - 1
    assert f"soup.jsonl:{number}: expected a JSON object" in log.read_text()
    assert "12 steps" in page.read_text()

    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
    assert "Traceback" not in log.read_text()
    assert "location.reload()" not in page.read_text()
    assert "</html>" in page.read_text()
    assert sorted(p.name for p in experiment.iterdir() if p.name.startswith((".", "report"))) == [
        "report.html"
    ]


def test_an_experiment_that_has_only_begun_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    experiment = tmp_path / "exp"
    experiment.mkdir()
    waits = iter([lambda: None, lambda: make_run(experiment, epochs=1, steps=4, layers=2)])

    def sleep(seconds: float) -> None:
        next(waits, _interrupt)()

    monkeypatch.setattr(time, "sleep", sleep)
    watch([experiment], tmp_path / "page.html", (), 1.0)
    said = capsys.readouterr().out
    assert f"waiting for {experiment}/config.yaml" in said
    assert "4 steps, finished" in (tmp_path / "page.html").read_text()


def _interrupt() -> None:
    raise KeyboardInterrupt
