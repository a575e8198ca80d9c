# SPDX-License-Identifier: Apache-2.0
"""Workers of dask that are jobs of a batch system: submitted, watched, cancelled."""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from espnet_objsoup.data.cluster import (
    SYSTEMS,
    ClusterConfig,
    cluster_class,
    job_options,
    read_cluster,
)
from espnet_objsoup.data.parallel import DASK_SETTINGS, StartClient, terminated_as_interrupted

_POLL_S = 5.0
# A job is looked for so often that one which is not listed yet, or is being cleaned up, has time.
_LOOKS = 3
# New jobs for those that were lost after they had worked (time limit, machine), for each of them.
_RESUBMISSIONS = 10


def client_starter(path: Path | None, log_directory: Path) -> StartClient | None:
    """What makes clients for a cluster's YAML; None, for workers of this machine, without one.

    Raises:
        ClusterError: if the YAML or what it needs is not as it should be.
        OSError: if the YAML cannot be read.
    """
    if path is None:
        return None
    return functools.partial(cluster_client, read_cluster(path), log_directory)


@contextmanager
def cluster_client(config: ClusterConfig, log_directory: Path, n_workers: int) -> Iterator[Any]:
    """A dask client whose workers are jobs; they are cancelled when the block ends, however.

    If this process is killed with -9, jobs end by themselves, a minute after they have lost it.

    Args:
        config: how jobs are submitted.
        log_directory: where they write, on a file system that all machines have.
        n_workers: how many.

    Yields:
        The client.

    Raises:
        RuntimeError: if jobs cannot be submitted, or all end without having connected.
    """
    import dask
    from distributed import Client

    log_directory.mkdir(parents=True, exist_ok=True)
    options = job_options(config, log_directory)
    # No dashboard: it would be open to everybody on the network.
    scheduler = {"dashboard": False, "dashboard_address": ":0"}
    options["scheduler_options"] = {**scheduler, **options.get("scheduler_options", {})}
    kind = cluster_class(config.system)
    refusals: list[Exception] = []
    with (
        # Which jobs are lost is found out here: dask would drop them silently.
        dask.config.set({**DASK_SETTINGS, "distributed.deploy.lost-worker-timeout": "7 days"}),
        terminated_as_interrupted(),
        # Keys of the connection, which workers read: for this user only, and only so long.
        tempfile.TemporaryDirectory(prefix=".keys-", dir=log_directory) as keys,
    ):
        cluster = kind(
            job_cls=_noting(kind.job_cls, refusals),
            security=True if config.tls else None,
            shared_temp_directory=os.path.abspath(keys),
            silence_logs="critical",
            **options,
        )
        with cluster, Client(cluster) as client:
            worked = _note_workers(cluster.scheduler)
            jobs = _Jobs(config, log_directory, cluster, client, refusals, worked)
            try:
                jobs.submit(config.jobs(n_workers))
                yield client
            except CancelledError as err:
                raise RuntimeError(jobs.failure or str(err)) from err
            finally:
                jobs.stop()


def _noting(job_class: type, refusals: list[Exception]) -> type:
    """A class of jobs that notes why they were not submitted; dask only logs that."""
    from distributed.core import Status

    class Job(job_class):
        async def start(self) -> None:
            try:
                await super().start()
            except Exception as err:
                refusals.append(err)
                self.status = Status.failed

    return Job


def _note_workers(scheduler: Any) -> set[str]:
    """Names of all workers that connect from now on."""
    from distributed import SchedulerPlugin

    names: set[str] = set()

    class Note(SchedulerPlugin):
        def add_worker(self, scheduler: Any, worker: str) -> None:
            names.add(str(scheduler.workers[worker].name))

    scheduler.add_plugin(Note())
    return names


class _Jobs:
    """Jobs of a cluster, looked at from time to time.

    One that had worked and is gone, as at its time limit, is replaced. When none is left, the
    client is closed, which ends waiting for results.

    Attributes:
        failure: why the client was closed.
    """

    def __init__(
        self,
        config: ClusterConfig,
        log_directory: Path,
        cluster: Any,
        client: Any,
        refusals: list[Exception],
        worked: set[str],
    ) -> None:
        self.failure = ""
        self._config, self._log_directory = config, log_directory
        self._cluster, self._client, self._refusals = cluster, client, refusals
        self._n_jobs = 0
        self._replaced = 0
        self._worked = worked
        self._missed: Counter[str] = Counter()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def submit(self, n_jobs: int) -> None:
        """Submit the first jobs.

        Raises:
            RuntimeError: with what the system's command says.
        """
        self._n_jobs = n_jobs
        self._scale()
        self._say(f"jobs {self._ids()} are submitted; their logs are in {self._log_directory}")
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _scale(self) -> None:
        async def settle() -> None:
            await self._cluster

        self._cluster.scale(jobs=self._n_jobs)
        self._cluster.sync(settle)
        if self._refusals:
            raise RuntimeError(
                f"{self._config.system}: expected a job, found that it was not submitted: "
                f"{self._refusals[0]}"
            )

    def _watch(self) -> None:
        while not self._stopped.wait(_POLL_S):
            gone = [name for name in list(self._cluster.workers) if self._is_gone(name)]
            lost = [name for name in gone if self._workers_of(name) & self._worked]
            try:
                if lost and self._replaced + len(lost) <= _RESUBMISSIONS * self._n_jobs:
                    self._replace(lost)
                elif gone and len(gone) == len(self._cluster.workers):
                    self._give_up("all have ended")
                    return
            except (RuntimeError, OSError) as err:  # the system's command refuses
                self._give_up(f"no new one can be submitted: {err}")
                return

    def _is_gone(self, name: str) -> bool:
        """Whether a job has no worker and the system does not know it any more, repeatedly."""
        workers = self._cluster.scheduler_info["workers"].values()
        connected = {str(worker["name"]) for worker in workers}
        if not self._workers_of(name) & connected and not _is_queued(
            self._config.system, self._cluster.workers[name].job_id
        ):
            self._missed[name] += 1
            return self._missed[name] >= _LOOKS
        self._missed[name] = 0
        return False

    def _workers_of(self, name: str) -> set[str]:
        return {name, *(f"{name}-{i}" for i in range(self._config.processes))}

    def _replace(self, names: list[str]) -> None:
        self._replaced += len(names)
        self._cluster.sync(self._cluster.scale_down, names)
        self._scale()
        self._say(f"{len(names)} job(s) were lost and replaced; now there are {self._ids()}")

    def _give_up(self, reason: str) -> None:
        self.failure = (
            f"{self._config.system}: expected workers of jobs {self._ids()}, found that {reason}; "
            f"{_end_of_log(self._log_directory)}"
        )
        self._client.close()

    def _ids(self) -> str:
        return " ".join(str(job.job_id) for job in self._cluster.workers.values())

    def _say(self, what: str) -> None:
        print(f"{self._config.system}: {what}", file=sys.stderr, flush=True)


def _is_queued(system: str, job: str | None) -> bool:
    """Whether a job waits or runs, as far as the system's command tells."""
    command = [*SYSTEMS[system].status, str(job)]
    if shutil.which(command[0]) is None:
        return True
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return told.returncode == 0 and bool(set(told.stdout.split()) - {"DONE", "EXIT"})


def _end_of_log(directory: Path) -> str:
    logs = [path for path in directory.glob("[!.]*") if path.is_file() and path.stat().st_size]
    if not logs:
        return f"they left no log in {directory}: see whether all machines have that directory"
    last = max(logs, key=lambda path: path.stat().st_mtime)
    lines = last.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
    return f"{last} ends:\n" + "\n".join(f"  {line}" for line in lines)
