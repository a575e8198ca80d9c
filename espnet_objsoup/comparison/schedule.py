# SPDX-License-Identifier: Apache-2.0
"""Several jobs at a time; one that fails does not stop the others."""

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from humanfriendly import format_timespan

from espnet_objsoup.comparison.process import Commands


@dataclass(frozen=True)
class Job:
    """Something to do.

    Attributes:
        name: in messages.
        work: does it; returns what came of it, in words.
    """

    name: str
    work: Callable[[Commands], str]


@dataclass
class _Progress:
    total: int
    n_jobs: int
    say: Callable[[str], None]
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: int = 0
    seconds: float = 0.0
    failed: list[str] = field(default_factory=list)

    def begins(self, number: int, name: str) -> None:
        with self.lock:
            self.say(f"[{number}/{self.total}] {name}: start")

    def ends(self, number: int, name: str, seconds: float, words: str, failed: bool) -> None:
        with self.lock:
            self.ended += 1
            self.seconds += seconds
            if failed:
                self.failed.append(name)
            left = self.seconds / self.ended * (self.total - self.ended) / self.n_jobs
            to_go = (
                f" (about {format_timespan(round(left))} to go)" if self.ended < self.total else ""
            )
            state = "FAILED" if failed else "done"
            took = format_timespan(round(seconds))
            self.say(f"[{number}/{self.total}] {name}: {state} after {took}{to_go}: {words}")


def run_all(
    jobs: Sequence[Job], n_jobs: int, commands: Commands, say: Callable[[str], None] = print
) -> list[str]:
    """Do all jobs.

    Args:
        jobs: in this order.
        n_jobs: so many at a time.
        commands: what they start processes with; stopped if this is interrupted.
        say: takes a line of progress.

    Returns:
        Names of those that failed, whose errors have been told.
    """
    progress = _Progress(len(jobs), max(min(n_jobs, len(jobs)), 1), say)

    def do(numbered: tuple[int, Job]) -> None:
        number, job = numbered
        progress.begins(number, job.name)
        started, failed = time.monotonic(), False
        try:
            words = job.work(commands)
        except (ValueError, OSError, RuntimeError) as err:
            words, failed = str(err), True
        except Exception as err:  # a fault of this program: the others go on all the same
            traceback.print_exc()
            words, failed = f"{type(err).__name__}: {err}", True
        progress.ends(number, job.name, time.monotonic() - started, words, failed)

    pool = ThreadPoolExecutor(progress.n_jobs)
    try:
        list(pool.map(do, enumerate(jobs, 1)))
    except BaseException:
        # Whoever waits in the queue is not begun; the running ones end with their commands.
        pool.shutdown(wait=False, cancel_futures=True)
        commands.stop()
        raise
    finally:
        pool.shutdown()
    return progress.failed
