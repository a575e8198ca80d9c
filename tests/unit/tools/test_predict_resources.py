# SPDX-License-Identifier: Apache-2.0
"""Predicted resources against a small model that is really run."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "egs2" / "mini_objsoup" / "conf" / "train_tiny.yaml"
PAGE = ROOT / "docs" / "resources.md"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts can be imported."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))


def test_a_step_is_what_was_counted(tools: None) -> None:
    """Shapes that were not run, larger in every way: bytes and operations agree."""
    from benchmarks.step_counts import operations, peak_bytes
    from predict_resources import PEAK_RATIO, build
    from resources.facts import FACTS
    from resources.step import GPUPolicy, Shape, make_batch, measure, saved_bytes

    # Logits of 5000 tokens would outweigh a model as small as this.
    facts = replace(FACTS["covost2"], vocabulary=300)
    _, model = build(CONFIG, facts)
    codes = model.languages
    rows = {"source": codes.index("fr"), "target": codes.index("en")}
    step = measure(model, lambda shape: make_batch(shape, rows, facts.vocabulary), half=False)
    assert step.parameters == sum(p.numel() for p in model.parameters())
    shape = Shape(4, 8, 30)
    batch = make_batch(shape, rows, facts.vocabulary)

    def forward() -> dict[str, torch.Tensor]:
        with GPUPolicy():
            return model(**batch)

    assert step.saved_bytes(shape) == pytest.approx(saved_bytes(model, forward), rel=1e-3)
    # The front end's filters have no backward pass, so 3 is a little too much.
    both = operations(lambda: forward()["loss"].backward())
    assert step.operations(shape) == pytest.approx(both, rel=0.1)
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.step()
    held = [t for state in optimizer.state.values() for t in state.values() if t.ndim]
    held += [*model.parameters(), *(p.grad for p in model.parameters())]
    assert step.state_bytes() == sum(t.numel() * t.element_size() for t in held)
    peak = peak_bytes(lambda: forward()["loss"].backward(), "cpu")
    # The batch itself is kept too, but was there before the step.
    assert 0.95 < peak / step.saved_bytes(shape) < PEAK_RATIO


def test_the_page_is_about_these_files_and_they_fit(tools: None) -> None:
    from predict_resources import read_batches
    from resources.facts import FACTS, GPUS

    lines = re.findall(r"^\| (\w+) \| `(train\w*\.yaml)` \|(.* M x .*)\|$", PAGE.read_text(), re.M)
    assert len(lines) == 3 * len(FACTS)
    for recipe, name, rest in lines:
        batches = read_batches(ROOT / "egs2" / f"{recipe}_objsoup" / "conf" / name)
        found = re.findall(r"(\d+) M x (\d+): ([\d.]+)", rest)
        for (memory, batch), (bins, accum, gib) in zip(batches.items(), found, strict=True):
            assert batch == (int(bins) * 10**6, int(accum))
            assert float(gib) < 0.92 * GPUS[memory].memory_gib


def test_no_time_is_rounded_to_nothing(tools: None) -> None:
    from predict_resources import in_words

    assert [in_words(hours) for hours in (3.7, 47, 48, 60, 240)] == [
        "4 hours", "47 hours", "2 days", "2 days", "10 days",
    ]  # fmt: skip
    assert "= 0 " not in PAGE.read_text()


def test_disk(tools: None) -> None:
    from resources.facts import disk

    alone, perturbed = (disk("librispeech", 10**6, 10, speeds) for speeds in (1, 3))
    assert alone.dump == 0  # flac is used where it is
    assert perturbed.dump == pytest.approx(2 * 960.9 * 3600 * 32000 * 0.53)
    assert alone.experiment == (12 * 4 + 12) * 10**6
