# SPDX-License-Identifier: Apache-2.0
"""kill -9 at a few random instants; tools/kill_training.py takes more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "kill_training.py"


def kill(out: Path, instants: int, *by: str) -> dict:
    """What the tool found."""
    command = [sys.executable, str(TOOL), "--out", str(out), "--instants", str(instants)]
    command += ["--seed", "3", "--by", *by]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=1400, check=False)
    assert finished.returncode == 0, finished.stderr[-4000:]
    result = json.loads((out / "kills.json").read_text())
    assert result["kills"] == len(result["list"]) == instants
    return result


def test_trainings_killed_by_the_clock_end_with_the_same_bits(tmp_path: Path) -> None:
    kill(tmp_path, 2, "clock")


def test_trainings_killed_while_they_write_end_with_the_same_bits(tmp_path: Path) -> None:
    result = kill(tmp_path, 5, "write", "call")
    # This seed kills inside a write, and where an epoch has been left in its middle.
    assert result["half-written files"] >= 1
    assert result["left"]["checkpoint.step.pth"] >= 1


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOL.parent))


def test_a_difference_of_one_bit_is_found(tool: None) -> None:
    import torch
    from kill_training import differences

    def state(x: float, n: int = 1) -> dict:
        tensors = [torch.tensor([x, float("nan")]), torch.tensor(2.0)]
        return {"model": tensors, "n": n, "mean": float("nan"), "name": "a"}

    one_bit_more = 1.0 + 2.0**-23
    assert list(differences(state(1.0), state(1.0))) == []
    assert list(differences(state(1.0), state(one_bit_more))) == ["/model[0]: other numbers"]
    assert list(differences(state(0.0), state(-0.0))) == ["/model[0]: other numbers"]
    assert list(differences(state(1.0), state(1.0, 2))) == ["/n: 1 and 2"]
    assert list(differences({"a": 1}, {})) == ["/a: only in one"]
    assert list(differences([1], [1, 2])) == [": 1 and 2 entries"]
