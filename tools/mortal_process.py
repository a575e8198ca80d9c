# SPDX-License-Identifier: Apache-2.0
"""A training in a forked process that dies at a chosen operation on files or at a chosen time."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Calls that change what is on the disk while a checkpoint, a link or a log is written.
OPERATIONS = ("replace", "link", "unlink", "symlink", "fsync", "rmdir", "mkdir")


class Operations:
    """Counts operations on files and dies at one of them.

    Args:
        kind: "write" or "call".
        fatal: number of the operation among those of its kind, from 1; 0: none.
    """

    def __init__(self, kind: str = "call", fatal: int = 0) -> None:
        self.kind, self.fatal = kind, fatal
        self.counts = {"write": 0, "call": 0}
        self._process = os.getpid()

    def due(self, kind: str) -> bool:
        """Count one; whether it is the one to die at."""
        if os.getpid() != self._process:
            return False  # a worker that reads data
        self.counts[kind] += 1
        return kind == self.kind and self.counts[kind] == self.fatal

    def call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, never returning if it is its turn: half the time it has not begun."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            if not self.due("call"):
                return function(*args, **kwargs)
            if self.fatal % 2:
                function(*args, **kwargs)
            die()

        return counted

    def installed(self) -> None:
        """From now on, in this process."""
        self._process = os.getpid()
        from espnet_objsoup.train import checkpoint_files

        for name in OPERATIONS:
            setattr(os, name, self.call(getattr(os, name)))
        serialise = checkpoint_files._serialise

        def counted(state: Any, file: Any) -> None:
            serialise(state, Writer(file, self))

        checkpoint_files._serialise = counted


class Writer:
    """A file whose write may be the last thing that happens, by half."""

    def __init__(self, file: Any, operations: Operations) -> None:
        self.file, self.operations = file, operations

    def write(self, data: Any) -> int:
        """Write; if it is its turn half of it, and die."""
        if self.operations.due("write"):
            view = memoryview(data).cast("B")
            self.file.write(view[: len(view) // 2])
            self.file.flush()
            die()
        return self.file.write(data)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the file's."""
        return getattr(self.file, name)


def die() -> None:
    """As `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def start(words: list[str], log: Path, operations: Operations | None = None) -> int:
    """Train in a process of its own, which writes its numbers of operations when it ends.

    Returns:
        Its process id.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with open(log, "ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        operations = operations or Operations()
        operations.installed()
        from espnet_objsoup.tasks.objsoup import ObjSoupTask

        ObjSoupTask.main(cmd=words)
        counts = json.dumps(operations.counts)
        log.with_suffix(".operations").write_text(counts, encoding="utf-8")
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait(child: int, kill_after: float | None = None) -> bool:
    """Wait for a training, and kill it if it takes so many seconds.

    Returns:
        Whether it was killed.

    Raises:
        ChildProcessError: if it failed by itself.
    """
    deadline = None if kill_after is None else time.monotonic() + kill_after
    while True:
        done, status = os.waitpid(child, 0 if deadline is None else os.WNOHANG)
        if done:
            break
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            deadline = None
        else:
            time.sleep(0.002)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status != 0:
        raise ChildProcessError(f"training ended with status {status}")
    return False
