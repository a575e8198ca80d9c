# SPDX-License-Identifier: Apache-2.0
"""Commands with a log, whose cost is measured, and which do not outlive this process."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_GUARD = [sys.executable, "-m", "espnet_objsoup.data.guard"]


@dataclass(frozen=True)
class Usage:
    """What commands cost.

    Attributes:
        cpu_seconds: processor time, user and system, of all their processes.
        wall_seconds: time that passed.
        memory_mb: most memory of one of the processes.
    """

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    memory_mb: float = 0.0

    def __add__(self, other: Self) -> "Usage":
        """One after the other."""
        return Usage(
            self.cpu_seconds + other.cpu_seconds,
            self.wall_seconds + other.wall_seconds,
            max(self.memory_mb, other.memory_mb),
        )


class CommandError(RuntimeError):
    """A command failed; the message holds the end of its log."""


class Commands:
    """Starts commands, several at a time; all of them can be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inputs: set[int] = set()
        self._stopped = False

    def run(self, command: Sequence[str], log: Path) -> Usage:
        """Run a command to its end.

        Args:
            command: words.
            log: file that its output is added to.

        Raises:
            CommandError: if it fails, is killed, or everything was stopped.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with open(log, "ab") as output:
            begin = output.tell()
            process, write_end = self._start(command, output.fileno())
            # os.wait4 alone tells what this child, and not its neighbours, has used.
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self._close(write_end)
        if process.returncode:
            raise CommandError(_failure(command, process.returncode, log, begin))
        scale = 1024.0 if sys.platform != "darwin" else 1024.0**2
        wall = time.monotonic() - started
        return Usage(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / scale)

    def stop(self) -> None:
        """End all commands, and start none any more."""
        with self._lock:
            self._stopped = True
            inputs, self._inputs = self._inputs, set()
        for descriptor in inputs:
            os.close(descriptor)

    def _start(self, command: Sequence[str], output: int) -> tuple[subprocess.Popen, int]:
        # The guard ends the command when its input is closed, which the end of this process does,
        # too. A descriptor of another command must not keep it open: it is not inherited.
        read_end, write_end = os.pipe()
        with self._lock:
            try:
                if self._stopped:
                    raise CommandError("stopped")
                process = subprocess.Popen(
                    [*_GUARD, *command], stdin=read_end, stdout=output, stderr=output
                )
                self._inputs.add(write_end)
            except BaseException:
                os.close(write_end)
                raise
            finally:
                os.close(read_end)
        return process, write_end

    def _close(self, write_end: int) -> None:
        with self._lock:
            if write_end in self._inputs:
                self._inputs.remove(write_end)
                os.close(write_end)


def _failure(command: Sequence[str], status: int, log: Path, begin: int) -> str:
    what = f"exit status {status}" if 0 < status < 128 else f"signal {abs(status) % 128}"
    with open(log, "rb") as file:
        file.seek(begin)
        # A line of progress is written over and over; its last state is what one would see.
        lines = file.read().decode("utf-8", errors="replace").rstrip().split("\n")
    end = "\n".join("  " + line.rpartition("\r")[2] for line in lines[-12:])
    return f"{' '.join(command)} ended with {what}; {log} ends with\n{end}"
