# SPDX-License-Identifier: Apache-2.0
"""Runs a command that does not outlive whoever asked for it: `python -m ...guard COMMAND...`.

Whoever starts this keeps the other end of its standard input; when that is closed, however its
owner ended, the command and what it started are ended. Exits with the command's status, or 128 plus
the signal that killed it.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

_GRACE_S = 5
_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def main(argv: Sequence[str]) -> int:
    """Run a command; returns its exit status as a shell would."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_end_with_parent
    )
    threading.Thread(target=_watch, args=(process,), daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: _end(process))
    status = process.wait()
    return 128 - status if status < 0 else status


def _end_with_parent() -> None:
    """Where this process is killed itself, it can end nobody: Linux does it then."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(process: subprocess.Popen) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    _end(process)


def _end(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    threading.Timer(_GRACE_S, _kill, (process,)).start()


def _kill(process: subprocess.Popen) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    # Timers that still wait do not hold it up.
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)
