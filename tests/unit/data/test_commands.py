# SPDX-License-Identifier: Apache-2.0
"""Commands in processes of their own, and what becomes of those that are killed."""

import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from espnet_objsoup.data.commands import Command, how_it_died, read_log, run_command, run_commands

ONCE = """
import os, pathlib, signal, sys, time
import psutil
marker = pathlib.Path(sys.argv[1])
with open(marker, "a") as file:
    file.write("x")
{body}
print("done", flush=True)
"""
KILLED_ONCE = "if marker.read_text() == 'x': os.kill(os.getpid(), signal.SIGKILL)"
# This process, its guard, and the worker that has started the guard.
WORKER_KILLED_ONCE = """
if marker.read_text() == "x":
    psutil.Process().parent().parent().kill()
    time.sleep(60)
"""


def command(directory: Path, name: str, body: str) -> Command:
    words = (sys.executable, "-c", ONCE.format(body=body), str(directory / name))
    return Command(words, str(directory / f"{name}.log"))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_command_that_was_killed_is_tried_again(tmp_path: Path, n_jobs: int) -> None:
    commands = [command(tmp_path, "a", KILLED_ONCE), command(tmp_path, "b", "")]
    assert sorted(run_commands(commands, n_jobs)) == [(0, 0), (1, 0)]
    assert (tmp_path / "a").read_text() == "xx"
    assert (tmp_path / "a.log").read_text() == "# it was killed; attempt 2 of 4\ndone\n"
    assert (tmp_path / "b.log").read_text() == "done\n"


def test_command_that_is_always_killed_is_reported(tmp_path: Path) -> None:
    body = "os.kill(os.getpid(), signal.SIGKILL)"
    ended = list(run_commands([command(tmp_path, "a", body)], 1))
    assert ended == [(0, -signal.SIGKILL)]
    assert (tmp_path / "a").read_text() == "xxxx"
    assert "it was killed 4 times, often for want of memory" in how_it_died(ended[0][1])


@pytest.mark.parametrize("status", [3, -signal.SIGSEGV])
def test_command_that_ends_otherwise_is_not_tried_again(tmp_path: Path, status: int) -> None:
    body = f"sys.exit({status}) if {status} > 0 else os.kill(os.getpid(), {-status})"
    assert list(run_commands([command(tmp_path, "a", body)], 1)) == [(0, status)]
    assert (tmp_path / "a").read_text() == "x"


def test_command_of_a_worker_that_was_killed_is_done_by_another_one(tmp_path: Path) -> None:
    commands = [command(tmp_path, "a", WORKER_KILLED_ONCE), command(tmp_path, "b", "")]
    assert sorted(run_commands(commands, 2)) == [(0, 0), (1, 0)]
    assert (tmp_path / "a").read_text() == "xx"
    assert (tmp_path / "a.log").read_text() == "done\n"


def test_command_does_not_outlive_its_guard(tmp_path: Path) -> None:
    """The guard ends it in all other cases; here the guard is what was killed."""
    body = "(marker.parent / 'pid').write_text(str(os.getpid())); "
    body += "psutil.Process().parent().kill(); time.sleep(1000)"
    assert run_command(command(tmp_path, "a", body)) == -signal.SIGKILL
    deadline = time.monotonic() + 120
    while psutil.pid_exists(int((tmp_path / "pid").read_text())):
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.05)


def test_log_of_a_command_that_was_killed_before_it_had_one(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none.log") == []
    assert "its worker was killed 4 times" in how_it_died(None)
