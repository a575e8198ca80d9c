# SPDX-License-Identifier: Apache-2.0
"""Many independent pieces of work over processes, with a progress bar.

Processes are those of this machine; `data.cluster` starts them on others.
"""

import logging
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from tqdm import tqdm

from espnet_objsoup.data.tables import listing

# Numerical libraries would otherwise start a thread per core in every worker.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
# How often an item is tried again after its worker died; an item that only waited at a worker which
# another one killed counts as well, so that one is not enough.
RETRIES = 3

DASK_SETTINGS = {
    "distributed.scheduler.allowed-failures": RETRIES,
    "distributed.comm.timeouts.connect": "60s",
    # A worker may not answer for long while libraries hold the interpreter.
    "distributed.scheduler.worker-ttl": None,
}

# Makes a dask client for a number of workers, which end with the block.
type StartClient = Callable[[int], AbstractContextManager[Any]]


def map_jobs[Item, Result](
    work: Callable[[Item], Result],
    items: Sequence[Item],
    n_jobs: int,
    description: str,
    fresh_process: bool = False,
    size_of: Callable[[Item], int] | None = None,
    unit: str = "item",
    start_client: StartClient | None = None,
    name_of: Callable[[Item], str] = str,
) -> Iterator[Result]:
    """Apply `work` to every item, in order.

    Args:
        work: a function that can be pickled.
        items: its arguments.
        n_jobs: processes; 1 works in this one.
        description: label of the progress bar.
        fresh_process: start a process for each item, so that no state is carried from one to the
            next.
        size_of: how much of the progress bar an item is; without it every item is one.
        unit: what the progress bar counts.
        start_client: makes a dask client for a number of workers; without it they are local.
        name_of: what an item is called if it kills its worker.

    Yields:
        Results in the order of `items`.

    Raises:
        RuntimeError: if processes die repeatedly, for example for want of memory, when all other
            work is done; with the items that they died at.
    """
    sizes = [1 if size_of is None else size_of(item) for item in items]
    n_jobs = min(n_jobs, len(items))
    with tqdm(total=sum(sizes), desc=description, unit=unit, mininterval=1.0) as progress:
        if fresh_process:
            yield from _in_fresh_processes(work, items, n_jobs, description, progress)
        elif n_jobs <= 1 and (start_client is None or not items):
            for item, size in zip(items, sizes, strict=True):
                result = work(item)
                progress.update(size)
                yield result
        else:
            chunks = _chunks(items, sizes, n_jobs)
            client = (start_client or local_client)(n_jobs)
            yield from _in_workers(work, chunks, client, description, progress, name_of)


def _chunks[Item](
    items: Sequence[Item], sizes: Sequence[int], n_jobs: int
) -> list[tuple[Sequence[Item], int]]:
    """Items and their size; a message to a worker costs milliseconds, an item may take less."""
    n = max(1, min(32, len(items) // (4 * n_jobs)))
    return [(items[i : i + n], sum(sizes[i : i + n])) for i in range(0, len(items), n)]


@contextmanager
def local_client(n_workers: int) -> Iterator[Any]:
    """A dask client with local worker processes, which end with the block."""
    # dask takes a second to import, which commands that do not need it should not spend.
    import dask
    from distributed import Client

    with (
        tempfile.TemporaryDirectory(prefix="objsoup-") as scratch,
        dask.config.set({**DASK_SETTINGS, "distributed.nanny.pre-spawn-environ": ONE_THREAD}),
    ):
        # dask lets this process' own environment overrule its settings.
        with _environment(ONE_THREAD):
            cluster = _start_cluster(n_workers, scratch)
        with cluster, Client(cluster) as client, _killed_on_error(cluster):
            yield client


def _start_cluster(n_workers: int, scratch: str) -> Any:
    """Worker processes of this machine.

    Raises:
        RuntimeError: if one dies repeatedly while it starts: dask replaces only those that work.
    """
    from distributed import LocalCluster

    for attempt in range(RETRIES + 1):
        try:
            return LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
                local_directory=scratch,
                # Whoever reaches the port, which is every user of this machine, could otherwise run
                # code as this one.
                security=True,
                # dask would stop workers near the limit; the operating system decides instead.
                memory_limit=0,
            )
        except RuntimeError as err:
            if attempt == RETRIES:
                raise RuntimeError(
                    f"expected {n_workers} worker processes, found that one died {RETRIES + 1} "
                    f"times while it started (often for want of memory): {err} Run again with a "
                    "smaller --nj"
                ) from err
    raise AssertionError("not reached")


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """A scheduler's SIGTERM ends the block as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever owns it handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _killed_on_error(cluster: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        # Closing would wait until workers have finished what they are doing.
        for nanny in cluster.workers.values():
            nanny.auto_restart = False
            if nanny.pid:
                with suppress(ProcessLookupError):  # it may be the one that has died
                    os.kill(nanny.pid, signal.SIGKILL)
        raise


def _in_workers[Item, Result](
    work: Callable[[Item], Result],
    chunks: Sequence[tuple[Sequence[Item], int]],
    start_client: AbstractContextManager[Any],
    description: str,
    progress: tqdm,
    name_of: Callable[[Item], str],
) -> Iterator[Result]:
    from distributed import KilledWorker

    killed: list[str] = []
    with start_client as client:
        futures = []
        for chunk, size in chunks:
            future = client.submit(_run_chunk, work, chunk, pure=False)
            future.add_done_callback(
                lambda done, size=size: done.status == "finished" and progress.update(size)
            )
            futures.append((future, chunk))
        # A future that is dropped frees its results in the worker.
        futures.reverse()
        while futures:
            future, chunk = futures.pop()
            try:
                results = future.result()
            except KilledWorker:
                killed += [name_of(item) for item in chunk]
                continue
            yield from results
    if killed:
        raise RuntimeError(
            f"{description}: worker processes died {RETRIES + 1} times (often for want of memory) "
            "at these items or at others that they worked on together; run again with a smaller "
            f"--nj, finished work is kept:\n{listing(killed)}"
        )


def _run_chunk[Item, Result](work: Callable[[Item], Result], chunk: Sequence[Item]) -> list[Result]:
    return [work(item) for item in chunk]


def _in_fresh_processes[Item, Result](
    work: Callable[[Item], Result],
    items: Sequence[Item],
    n_jobs: int,
    description: str,
    progress: tqdm,
) -> Iterator[Result]:
    """A process for each item.

    dask uses its workers again, and they cannot start processes of their own: they are daemons
    with threads, from which forking is not safe. Here every process is forked from a server that
    has imported the work's module and never done any of it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    pool = ProcessPoolExecutor(max(1, n_jobs), mp_context=context, max_tasks_per_child=1)
    try:
        for result in pool.map(work, items):
            progress.update()
            yield result
    except BrokenProcessPool as err:
        raise RuntimeError(
            f"{description}: a process died (often for want of memory); run again with a smaller "
            "--nj"
        ) from err
    finally:
        pool.shutdown(cancel_futures=True)
