# SPDX-License-Identifier: Apache-2.0
"""A batch system on this machine: submits, lists and cancels as SLURM, PBS, SGE and LSF do.

Jobs really run, at once, each in a session of its own. Directives of the script are not obeyed.
"""

import os
import signal
import stat
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMANDS = {
    "slurm": ("sbatch", "scancel", "squeue"),
    "pbs": ("qsub", "qdel", "qstat"),
    "sge": ("qsub", "qdel", "qstat"),
    "lsf": ("bsub", "bkill", "bjobs"),
}
SUBMITTED = {
    "slurm": "Submitted batch job {}",
    "pbs": "{}.server",
    "sge": 'Your job {} ("objsoup") has been submitted',
    "lsf": "Job <{}> is submitted to default queue <normal>.",
}

PROGRAM = r"""#!{python}
import os, pathlib, shutil, signal, subprocess, sys
work, submitted = pathlib.Path({work!r}), {submitted!r}
what = {what!r}
with open(work / "calls", "a") as calls:
    print(pathlib.Path(sys.argv[0]).name, *sys.argv[1:], file=calls)
if what == "submit":
    if (work / "refuse").exists():
        sys.exit("error: invalid account")
    # Several are submitted at once: each number is taken by one of them only.
    for number in map(str, range(1, 1000)):
        script = work / (number + ".sh")
        try:
            file = open(script, "x")
            break
        except FileExistsError:
            pass
    with file:
        file.write(open(sys.argv[1]).read() if len(sys.argv) > 1 else sys.stdin.read())
    # Not all systems hand the environment on.
    kept = {{k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR")}}
    log = open(work / "logs" / ("objsoup-" + number + ".out"), "w")
    job = subprocess.Popen(["bash", str(script)], cwd="/", env=kept, stdin=subprocess.DEVNULL,
                           stdout=log, stderr=log, start_new_session=True)
    (work / (number + ".pid")).write_text(str(job.pid))
    print(submitted.format(number))
else:
    number = sys.argv[-1].partition(".")[0]
    pid = int((work / (number + ".pid")).read_text())
    try:
        state = pathlib.Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        state = "Z"
    if what == "status":
        if state == "Z":
            sys.exit("unknown job")
        print(number, "R")
    elif state != "Z":
        os.killpg(pid, signal.SIGKILL)
"""


@dataclass
class FakeBatch:
    """A batch system.

    Attributes:
        system: its name.
        work: where it notes what it does.
    """

    system: str
    work: Path

    @property
    def logs(self) -> Path:
        return self.work / "logs"

    @property
    def scripts(self) -> list[str]:
        return [path.read_text() for path in sorted(self.work.glob("*.sh"))]

    @property
    def pids(self) -> list[int]:
        return [int(path.read_text()) for path in sorted(self.work.glob("*.pid"))]

    @property
    def running(self) -> list[int]:
        """Jobs of which any process is alive."""
        sessions = set()
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    sessions.add(int(fields[3]))
        return [pid for pid in self.pids if pid in sessions]

    def calls(self, command: str) -> list[str]:
        path = self.work / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.split()[0] == command]

    def kill(self) -> None:
        """As at the time limit."""
        for pid in self.running:
            os.killpg(pid, signal.SIGKILL)

    def wait_until_empty(self, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while self.running:
            assert time.monotonic() < deadline, "jobs are left behind"
            time.sleep(0.1)


def make_batch(system: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBatch:
    """Put a batch system's commands on PATH."""
    batch = FakeBatch(system, root / "batch")
    commands = root / "commands"
    commands.mkdir()
    batch.logs.mkdir(parents=True)
    for name, what in zip(COMMANDS[system], ("submit", "cancel", "status"), strict=True):
        text = PROGRAM.format(
            python=sys.executable, work=str(batch.work), submitted=SUBMITTED[system], what=what
        )
        path = commands / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    return batch
