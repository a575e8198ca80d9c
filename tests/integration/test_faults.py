# SPDX-License-Identifier: Apache-2.0
"""Trainings in which something goes wrong: a process, a disk, a file of audio, an utterance."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .fault_worker import PATIENCE_S, TIMEOUT_S

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What became of every training."""
    out = tmp_path_factory.mktemp("faults")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.fault_worker", str(out)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1400,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    parts = json.loads((out / "results.json").read_text())
    return {name: result for part in parts.values() for name, result in part.items()}


def errors(result: dict) -> list[str]:
    """What the command told the user; a traceback is none of it."""
    assert "Traceback" not in result["log"], result["log"][-3000:]
    return [line for line in result["log"].splitlines() if line.startswith("error: ")]


# Processes that end by themselves: name -> their statuses (None: started never or stopped), and
# what the one that is left says.
LOST = {
    "killed": ([1, -9], "error: process 0 of 2 expected an answer .* one of them has ended"),
    "first_killed": ([-9, 1], "error: process 1 of 2 expected an answer .* one of them has ended"),
    "stopped": ([1, None], f"process 0 of 2 .* found none within {TIMEOUT_S} s: one of them hangs"),
    "never_started": ([1, None], f"found none within {TIMEOUT_S} s: .* or has not started"),
}


@pytest.mark.parametrize("name", LOST)
def test_process_that_dies_or_hangs_ends_the_others(found: dict[str, dict], name: str) -> None:
    statuses, message = LOST[name]
    assert found[name]["statuses"] == statuses
    (line,) = errors(found[name])
    assert re.search(message, line)
    assert "resumes from the last checkpoint" in line
    # None waited in vain for the time that is given to a busy machine.
    assert found[name]["seconds"] < PATIENCE_S
    assert not found[name]["left"]


@pytest.mark.parametrize("name", ["disk_full", "read_only"])
def test_first_process_that_cannot_write_ends_the_others(found: dict[str, dict], name: str) -> None:
    reason = {"disk_full": "No space left on device", "read_only": "Read-only file system"}[name]
    assert found[name]["statuses"] == [1, 1]
    lines = sorted(errors(found[name]))
    assert re.search(rf"{reason}; a checkpoint .* Nothing is lost.*checkpoint.step.pth", lines[0])
    assert lines[1] == (
        "error: process 1 of 2 ends, because process 0 could not write its files; what it says "
        "tells why"
    )
    assert found[name]["seconds"] < PATIENCE_S
    assert not found[name]["left"]


@pytest.mark.parametrize("name", ["killed", "disk_full"])
def test_training_of_two_processes_goes_on_to_the_same_end(
    found: dict[str, dict], name: str
) -> None:
    assert found["two"]["statuses"] == found[name]["resumed"]["statuses"] == [0, 0]
    assert found[name]["resumed"]["same"]


AUDIO = {
    "gone, train, 1 workers": "u004.wav: No such file or directory. Bring back",
    "cut off, train, 1 workers": "samples as in stage 10, found 2478; .*the file is cut off",
    "replaced, train, 1 workers": "expected 14882 samples as in stage 10, found 20000. Bring back",
    "gone, train, 0 workers": "u004.wav: No such file or directory. Bring back",
    "gone, valid, 1 workers": "valid/u004.wav: No such file or directory. Bring back",
}


@pytest.mark.parametrize("name", AUDIO)
def test_audio_that_changes_during_training(found: dict[str, dict], name: str) -> None:
    assert found[name]["statuses"] == [1]
    (line,) = errors(found[name])
    assert re.search(r"^error: \S+/wav.scp: utterance u004: \S+u004.wav: ", line)
    assert re.search(AUDIO[name], line)
    assert not found[name]["left"]


@pytest.mark.parametrize("name", AUDIO)
def test_training_goes_on_when_the_audio_is_back(found: dict[str, dict], name: str) -> None:
    resumed = found[name]["resumed"]
    assert resumed["statuses"] == [0]
    assert "training goes on from checkpoint" in resumed["log"]
    assert resumed["same"]


def test_odd_utterances_do_not_end_training(found: dict[str, dict]) -> None:
    """Silence, a constant, clipping, 10 ms, no text, more labels than frames, a long one."""
    odd = found["odd"]
    assert odd["statuses"] == [0]
    assert not errors(odd)
    assert "1 of 31 utterances are so long that a batch exceeds batch_bins (96000)" in odd["log"]
    assert "as the one of long does (56000 samples)" in odd["log"]
    # `wordy` and `short`, of 30 utterances with a transcript.
    assert odd["infeasible"] == pytest.approx(2 / 30, abs=0.02)
    assert odd["faults"]["in_a_row"] == 0


def test_utterance_without_samples_is_refused_by_name(found: dict[str, dict]) -> None:
    assert found["empty"]["statuses"] == [1]
    (line,) = errors(found["empty"])
    assert re.search(r"utterance empty: \S+/empty.wav: expected audio, found no samples", line)
