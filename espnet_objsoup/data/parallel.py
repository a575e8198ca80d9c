# SPDX-License-Identifier: Apache-2.0
"""Many independent pieces of work over local processes, with a progress bar."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from tqdm import tqdm


def map_jobs[Item, Result](
    work: Callable[[Item], Result],
    items: Sequence[Item],
    n_jobs: int,
    description: str,
    fresh_process: bool = False,
) -> Iterator[Result]:
    """Apply `work` to every item, in order.

    Args:
        work: a function that can be pickled.
        items: its arguments.
        n_jobs: processes.
        description: label of the progress bar.
        fresh_process: start a process for each item, so that no state is carried from one to the
            next.

    Yields:
        Results in the order of `items`.

    Raises:
        RuntimeError: if a process dies, for example for want of memory.
    """
    with tqdm(total=len(items), desc=description, unit="item", mininterval=1.0) as progress:
        if n_jobs == 1 and not fresh_process:
            for item in items:
                yield work(item)
                progress.update()
            return
        context = multiprocessing.get_context("forkserver")
        # Processes are forked from a server that has imported the work's module already.
        context.set_forkserver_preload([work.__module__])
        pool = ProcessPoolExecutor(
            max_workers=min(n_jobs, max(len(items), 1)),
            mp_context=context,
            max_tasks_per_child=1 if fresh_process else None,
        )
        chunk = 1 if fresh_process else max(1, min(32, len(items) // (4 * n_jobs)))
        try:
            for result in pool.map(work, items, chunksize=chunk):
                yield result
                progress.update()
        except BrokenProcessPool as err:
            raise RuntimeError(
                f"{description}: a worker process died (memory?); run again with a smaller --nj"
            ) from err
        finally:
            pool.shutdown(cancel_futures=True)
