# SPDX-License-Identifier: Apache-2.0
"""The soak script: what it calls growth, and a short run of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[3] / "tools"


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(TOOLS))
    import soak

    return soak


def steady(soak, n: int = 80) -> list:
    """Memory that a warm-up fills, logs that grow evenly."""
    return [
        soak.Sample(
            step=25 * i,
            seconds=float(i),
            rss_mib=500.0 + min(10 * i, 100) + i % 3,
            handles=20 + i % 2,
            threads=4,
            children=1,
            log_kib=10.0 * i,
            soup_kib=5.0 * i,
            checkpoint_kib=450.0,
        )
        for i in range(1, n + 1)
    ]


def test_steady_run_has_no_problem(soak) -> None:
    samples = steady(soak)
    assert soak.problems(samples) == []
    assert soak.growth(samples, "log_kib") == pytest.approx(400.0)


@pytest.mark.parametrize(
    ("name", "per_step", "message"),
    [
        (
            "rss_mib",
            0.01,
            "MiB of resident memory: expected at most 8 more per 1000 steps, found 10",
        ),
        ("handles", 0.002, "open file handles: expected at most 0 more per 1000 steps, found 2"),
        ("threads", 0.001, "threads: expected at most 0 more"),
        ("children", 0.001, "child processes: expected at most 0 more"),
        ("log_kib", 0.7, "KiB of the log: expected at most 1024 more"),
        ("checkpoint_kib", 0.1, "KiB of checkpoint.pth: expected at most 64 more"),
    ],
)
def test_leak_is_found(soak, name: str, per_step: float, message: str) -> None:
    samples = [
        replace(sample, **{name: getattr(sample, name) + per_step * sample.step})
        for sample in steady(soak)
    ]
    (problem,) = soak.problems(samples)
    assert problem.startswith(message)


def test_log_that_grows_faster_and_faster_is_found(soak) -> None:
    samples = [
        replace(sample, soup_kib=sample.soup_kib + 1e-4 * sample.step**2) for sample in steady(soak)
    ]
    (problem,) = soak.problems(samples)
    assert problem.startswith("KiB of soup.jsonl: expected even growth")


def test_few_samples_say_nothing(soak) -> None:
    with pytest.raises(ValueError, match="expected at least 8 samples, found 7"):
        soak.problems(steady(soak, 7))


@pytest.fixture
def short(soak, tmp_path: Path) -> list:
    """150 steps: three epochs with refreshes, scans, validation and checkpoints."""
    return soak.soak(tmp_path, steps=150, interval=5, workers=0)


def test_short_run(soak, short: list, tmp_path: Path) -> None:
    """Handles and threads do not grow after the first epoch; memory hardly."""
    assert short[-1].step >= 150
    later = [sample for sample in short if sample.step > 55]
    assert len({(sample.handles, sample.threads, sample.children) for sample in later}) <= 2
    assert later[-1].handles <= later[0].handles + 1
    assert later[-1].rss_mib - later[0].rss_mib < 40  # caches still fill
    lines = (tmp_path / "exp" / "soup.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds.count("scan") == 3
    assert kinds.count("refresh") > 30
    assert "skipped" not in kinds
    assert later[-1].log_kib > later[0].log_kib > 0
    # The plot of it.
    from dataclasses import asdict

    from figures.soak import draw

    draw({"samples": [asdict(sample) for sample in short]}, tmp_path / "soak.svg")
    assert "resident memory" in (tmp_path / "soak.svg").read_text()
