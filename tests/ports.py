# SPDX-License-Identifier: Apache-2.0
"""Ports of this machine for servers of tests."""

import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port for a server that starts in a moment.

    Not one of those that the system gives to whoever asks for any: until the server has imported
    what it needs, each connection of this machine might get it.
    """
    first, last = map(int, RANGE.read_text().split()) if RANGE.exists() else (1024, 2**16)
    others = [number for number in range(1024, 2**16) if not first <= number <= last]
    # Not repeatable, as tests may run twice at the same time.
    for number in random.SystemRandom().sample(others, len(others)):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", number))
            except OSError:
                continue
        return number
    # The system hands out all of them: then it may give one, and nobody can be sure.
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]
