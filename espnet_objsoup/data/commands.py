# SPDX-License-Identifier: Apache-2.0
"""Commands that run at the same time, through dask, on this machine or on a cluster.

A command is a process of its own where work cannot be done by a worker itself: it needs its
environment (threads, the GPU that it sees) before torch is imported, its memory is given back when
it ends, and its log also holds what a crash in native code prints.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_objsoup.data.parallel import RETRIES, StartClient, local_client


def read_log(path: Path) -> list[str]:
    """Lines of a command's log; none if it was killed before it could have one."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


@dataclass(frozen=True)
class Command:
    """A command line and where it writes.

    Attributes:
        words: program and arguments.
        log: file of its output, which is replaced.
        environment: what it has besides the environment of its machine.
        header: write the command line into the log first.
    """

    words: tuple[str, ...]
    log: str
    environment: Mapping[str, str] = field(default_factory=dict)
    header: bool = False


def died(status: int | None) -> bool:
    """Whether a command did not end by itself, by a status of `run_commands`."""
    return status is None or status < 0


def how_it_died(status: int | None) -> str:
    """A status of `run_commands`, other than one that the command chose itself, in words."""
    if status is None or status == -signal.SIGKILL:
        who = "its worker" if status is None else "it"
        return f"{who} was killed {RETRIES + 1} times, often for want of memory: try a smaller --nj"
    return f"killed by signal {-status}"


def run_until_alive(command: Command) -> int:
    """Run a command here, again if it is killed, as the system does for want of memory.

    Returns:
        Its last exit status, as `run_command`.
    """
    status = run_command(command)
    for attempt in range(2, RETRIES + 2):
        if status != -signal.SIGKILL:
            break
        status = run_command(command, f"# it was killed; attempt {attempt} of {RETRIES + 1}")
    return status


def run_command(command: Command, remark: str = "") -> int:
    """Run a command here; returns its exit status, negative for a signal.

    The command is ended if this process is.

    Args:
        command: what to run.
        remark: first line of the log.
    """
    with open(command.log, "w", encoding="utf-8") as log:
        if remark:
            print(remark, file=log, flush=True)
        if command.header:
            print(f"# {shlex.join(command.words)}", file=log, flush=True)
        guard = subprocess.Popen(
            [sys.executable, "-m", "espnet_objsoup.data.guard", *command.words],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **command.environment},
            start_new_session=True,  # Ctrl-C comes to this process only, which ends the other
        )
    try:
        status = guard.wait()
    finally:
        guard.stdin.close()
        guard.wait()
    return 128 - status if status > 128 else status


def run_commands(
    commands: Sequence[Command], n_jobs: int, start_client: StartClient | None = None
) -> Iterator[tuple[int, int | None]]:
    """Run commands, `n_jobs` at a time; closing the iterator ends those that run.

    Args:
        commands: what to run; those that may be repeated after their machine was lost, that is
            those that write their result under its name when it is complete.
        n_jobs: at the same time.
        start_client: makes a dask client for a number of workers; without it they are local, and a
            single one runs in this process.

    Yields:
        Number and exit status of a command that has ended, as they end; None if its worker died
        repeatedly. A command that was killed has been tried again.
    """
    if not commands:
        return
    n_jobs = min(n_jobs, len(commands))
    if start_client is None and n_jobs <= 1:
        for number, command in enumerate(commands):
            yield number, run_until_alive(command)
        return
    from distributed import KilledWorker, as_completed

    with (start_client or local_client)(n_jobs) as client:
        futures = {
            client.submit(run_until_alive, c, pure=False): number
            for number, c in enumerate(commands)
        }
        for future in as_completed(futures):
            try:
                status = future.result()
            except KilledWorker:
                status = None
            yield futures[future], status
