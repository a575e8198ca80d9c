# SPDX-License-Identifier: Apache-2.0
import sys
import threading
import time
from pathlib import Path

import pytest

from espnet_objsoup.comparison.process import CommandError, Commands, Usage
from espnet_objsoup.comparison.schedule import Job, run_all

BUSY = "import time\nwhile time.process_time() < 0.4: pass\nx = bytearray(60_000_000)\nprint('end')"


def test_what_a_command_costs(tmp_path: Path) -> None:
    """Of a process that the command starts, as run.sh does."""
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"
    used = Commands().run([sys.executable, "-c", inner], tmp_path / "logs" / "log")
    assert 0.4 <= used.cpu_seconds < 3
    assert used.memory_mb > 60
    assert used.wall_seconds > 0
    assert (tmp_path / "logs" / "log").read_text() == "end\n"


def test_costs_of_one_command_after_the_other() -> None:
    total = Usage(1.0, 2.0, 300.0) + Usage(0.5, 1.0, 200.0)
    assert total == Usage(1.5, 3.0, 300.0)


def test_the_end_of_the_log_of_the_command_that_failed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    commands = Commands()
    commands.run([sys.executable, "-c", "print('of the one before')"], log)
    script = "for i in range(40): print('line', i)\nprint('50%\\r99%')\nraise SystemExit(7)"
    with pytest.raises(CommandError) as caught:
        commands.run([sys.executable, "-c", script], log)
    text = str(caught.value)
    assert "exit status 7" in text
    assert text.endswith("  line 39\n  99%")
    assert "line 28\n" not in text
    assert "before" not in text


def test_stop_ends_what_runs_and_starts_nothing(tmp_path: Path) -> None:
    commands = Commands()
    running = tmp_path / "running"

    def stop() -> None:
        while not running.exists():
            time.sleep(0.01)
        commands.stop()

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(CommandError, match="signal 15"):
        commands.run(["sh", "-c", f"touch {running}; exec sleep 1000"], tmp_path / "log")
    with pytest.raises(CommandError, match="stopped"):
        commands.run(["true"], tmp_path / "log")


def test_jobs_and_those_that_fail() -> None:
    at_work, most, lines = [], [], []
    lock, together = threading.Lock(), threading.Barrier(2, timeout=300)

    def work(name: str) -> str:
        with lock:
            at_work.append(name)
            most.append(len(at_work))
        if name in "ab":  # neither ends before both are at work
            together.wait()
        with lock:
            at_work.remove(name)
        if name == "b":
            raise ValueError("wrong")
        return f"made {name}"

    jobs = [Job(name, lambda _, name=name: work(name)) for name in "abcde"]
    assert run_all(jobs, 2, Commands(), lines.append) == ["b"]
    assert max(most) == 2
    assert any("b: FAILED" in line and line.endswith(": wrong") for line in lines)
    assert any("e: done" in line and line.endswith(": made e") for line in lines)
    assert "to go" not in lines[-1]
    assert run_all([], 2, Commands(), lines.append) == []
