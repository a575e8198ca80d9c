# SPDX-License-Identifier: Apache-2.0
"""Processes that train together: how long one waits for another, and what it says when in vain.

ESPnet starts the group without a time-out, so that PyTorch's holds: half an hour (gloo) or ten
minutes (NCCL). What PyTorch says then names addresses and lines of C++.
"""

import functools
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from espnet_objsoup.train.checked_audio import UnreadableAudioError, without_worker

# Not in the YAML: how patient one is belongs to machines, and another YAML is another experiment.
TIMEOUT_VARIABLE = "OBJSOUP_PROCESS_TIMEOUT_S"
# How gloo, NCCL and the store where processes meet name their troubles, which have no type.
_OF_A_GROUP = re.compile(r"gloo|NCCL|ProcessGroup|c10d|TCPStore|FileStore|client socket", re.I)
_TIMED_OUT = re.compile(r"time[d ]?[- ]?out", re.I)
_RESUME = "train again with the same command: it resumes from the last checkpoint"


class LostProcessError(ConnectionError):
    """Another process of the training does not answer, or has ended."""


def timeout_s() -> float | None:
    """Seconds that one process waits for another; None: PyTorch's own.

    Raises:
        ValueError: if the environment says something else.
    """
    value = os.environ.get(TIMEOUT_VARIABLE)
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds <= 1e7:  # neither NaN nor what a timedelta of C++ cannot hold
        raise ValueError(
            f"{TIMEOUT_VARIABLE}: expected seconds from 1 to 1e7, found {value!r}; correct it "
            "or leave it out"
        )
    return seconds


@contextmanager
def watched_group(rank: int | None = None) -> Iterator[None]:
    """The group that is started in this block has the time-out; its failures are told in words.

    Args:
        rank: of this process, for messages; None: as the group knows it.

    Raises:
        LostProcessError: where another process was waited for in vain.
        UnreadableAudioError: as a worker that reads data raised it.
        ValueError: if the time-out in the environment is none.
    """
    from torch import distributed

    seconds = timeout_s()
    original = distributed.init_process_group
    if seconds is not None:
        distributed.init_process_group = functools.partial(
            original, timeout=timedelta(seconds=seconds)
        )
    try:
        yield
    except UnreadableAudioError as err:
        raise without_worker(err) from err
    except RuntimeError as err:
        if not _is_of_a_group(err):
            raise
        raise LostProcessError(_explain(err, rank)) from err
    finally:
        distributed.init_process_group = original


def _is_of_a_group(err: RuntimeError) -> bool:
    from torch import distributed

    known = isinstance(err, distributed.DistError)
    return known or _OF_A_GROUP.search(str(err)) is not None


def _explain(err: RuntimeError, rank: int | None) -> str:
    from torch import distributed

    who = "this process"
    if distributed.is_initialized():
        who = f"process {distributed.get_rank()} of {distributed.get_world_size()}"
    elif rank is not None:
        who = f"process {rank}"
    # The advice that follows is addressed to PyTorch's developers.
    first = str(err).strip().splitlines()[0].partition(". This is")[0]
    if _TIMED_OUT.search(str(err)):
        waited = timeout_s()
        limit = "PyTorch's time-out" if waited is None else f"{waited:g} s"
        return (
            f"{who} expected an answer of the other processes, found none within {limit}: one of "
            "them hangs, or has not started. Look at its messages above, its machine, disk and "
            f"GPU, and end it if it is still there; then {_RESUME}. Where work takes longer than "
            f"that, set {TIMEOUT_VARIABLE} (seconds). PyTorch says: {first}"
        )
    return (
        f"{who} expected an answer of the other processes, found that one of them has ended. If it "
        "has left no message above, it was killed: the kernel's log (dmesg) or the batch system "
        f"tells whether for want of memory. Then {_RESUME}. PyTorch says: {first}"
    )


def done_by_first(work: Callable[[], None], is_first: bool, device: str) -> None:
    """Let the first process of a group do something that the others cannot go on without.

    Args:
        work: writes what all of them need to be there.
        is_first: whether this process is the one.
        device: of tensors that are exchanged.

    Raises:
        LostProcessError: in the other processes if it fails; in the first one what `work` raises.
    """
    import torch
    from torch import distributed

    failure = None
    if is_first:
        try:
            work()
        except Exception as err:  # raised below, after the others know
            failure = err
    failed = torch.tensor(int(failure is not None), device=device)
    try:
        distributed.broadcast(failed, 0)
    except RuntimeError:
        if failure is not None:
            raise failure from None  # what it says matters more than that the others are gone
        raise
    if failure is not None:
        raise failure
    if failed:
        raise LostProcessError(
            f"process {distributed.get_rank()} of {distributed.get_world_size()} ends, because "
            "process 0 could not write its files; what it says tells why"
        )


def check_same(own: str, what: str) -> None:
    """Make sure that all processes have found the same.

    Args:
        own: what this process has found, in words.
        what: it is.

    Raises:
        LostProcessError: in all processes, if one has found something else.
    """
    from torch import distributed

    found: list[str] = [""] * distributed.get_world_size()
    distributed.all_gather_object(found, own)
    if len(set(found)) > 1:
        each = "; ".join(f"process {rank}: {value}" for rank, value in enumerate(found))
        raise LostProcessError(
            f"{what}: expected the same in all processes, found {each}. A disk that they share may "
            "not show all of them the newest files yet, or one of them cannot read a file: compare "
            f"the directory on all machines; then {_RESUME}"
        )
