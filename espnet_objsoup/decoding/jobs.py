# SPDX-License-Identifier: Apache-2.0
"""Decoding in several processes.

Each process is a command of its own (`data.commands`), with a share of the utterances. Smaller
pieces, shared out as workers become free, are of no use here, because loading a model takes longer
than the difference between two shares of equal duration.
"""

import hashlib
import heapq
import json
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from espnet_objsoup.bin.cli import run_command
from espnet_objsoup.data.commands import Command, died, how_it_died, read_log, run_commands
from espnet_objsoup.data.datadir import DataDir, read
from espnet_objsoup.data.files import naming_place, room_left, write_bytes
from espnet_objsoup.data.parallel import StartClient, terminated_as_interrupted
from espnet_objsoup.decoding.options import InferenceError
from espnet_objsoup.decoding.output import LOGS, Output
from espnet_objsoup.decoding.worker import Request, decode

_POLL_S = 0.2
_LOG_LINES = 8
_LOG_FORMAT = "%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s"


def visible_devices() -> list[str]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    Raises:
        InferenceError: if there is none.
    """
    import torch  # 4 s, so only where a GPU is asked for

    count = torch.cuda.device_count()
    if count == 0:
        reason = "this torch is built without CUDA" if torch.version.cuda is None else "no device"
        raise InferenceError(
            f"--ngpu 1: expected a GPU, found none ({reason}); decode with --ngpu 0"
        )
    named = [d.strip() for d in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if d.strip()]
    return named[:count] if named else [str(i) for i in range(count)]


def assign_devices(devices: Sequence[str], n_jobs: int) -> list[str]:
    """A GPU for every job, in turn."""
    return [devices[job % len(devices)] for job in range(n_jobs)]


def balance(durations: Mapping[str, int], n_jobs: int) -> list[list[str]]:
    """Shares of nearly equal total duration: the longest utterance to the lightest share.

    Args:
        durations: utterance -> length.
        n_jobs: number of shares, at most the number of utterances.
    """
    shares: list[list[str]] = [[] for _ in range(n_jobs)]
    loads = [(0, job) for job in range(n_jobs)]
    for key in sorted(durations, key=lambda key: (-durations[key], key)):
        load, job = heapq.heappop(loads)
        shares[job].append(key)
        heapq.heappush(loads, (load + durations[key], job))
    return shares


def fingerprint(request: Request, data: DataDir, shares: Sequence[Sequence[str]]) -> str:
    """Hash of all that the shares' results depend on."""
    files = [
        (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
        for path in (request.train_config, request.model_file)
    ]
    content = [request.to_json(), files, data.columns, list(map(list, shares))]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Job:
    """One process and its files; jobs are numbered from 1, as ESPnet numbers them.

    Attributes:
        number: of the job.
        directory: where jobs keep their shares and results.
        log: file of its messages.
    """

    number: int
    directory: Path
    log: Path

    @property
    def share(self) -> Path:
        """Request and utterances."""
        return self.directory / f"{self.number}.json"

    @property
    def result(self) -> Path:
        """Hypotheses, there only when all are."""
        return self.directory / f"{self.number}.done"

    @property
    def progress(self) -> Path:
        """Number of utterances decoded so far."""
        return self.directory / f"{self.number}.progress"

    def decoded(self) -> int:
        """Number of utterances decoded so far."""
        try:
            return int(self.progress.read_text(encoding="ascii") or 0)
        except (OSError, ValueError):  # not there yet, or just being written
            return 0


def job_log(output_dir: Path, number: int) -> Path:
    """Log of a job, as ESPnet names it."""
    return output_dir / LOGS / f"objsoup_inference.{number}.log"


def worker_command(share: Path) -> list[str]:
    """Command that decodes a share."""
    return [sys.executable, "-m", "espnet_objsoup.decoding.jobs", str(share)]


def decode_here(request: Request, data: DataDir, keys: Sequence[str], output_dir: Path) -> Output:
    """Decode in this process, with a log as the only job of a run has it."""
    log = job_log(output_dir, 1)
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        _logging_to(log),
        tqdm(total=len(keys), desc=f"decode {request.data_dir.name}", unit="utt") as bar,
    ):
        return decode(request, data, keys, bar.update)


def decode_in_jobs(
    request: Request,
    data: DataDir,
    keys: Sequence[str],
    output_dir: Path,
    n_jobs: int,
    devices: Sequence[str] = (),
    command: Callable[[Path], list[str]] = worker_command,
    start_client: StartClient | None = None,
    threads: int | None = None,
) -> Output:
    """Decode in several processes.

    A run that failed can be repeated: shares that were finished with the same model, data and
    options are kept.

    Args:
        request, data, keys: as for `decode`.
        output_dir: of the split; logs are written to `logs/objsoup_inference.<job>.log`.
        n_jobs: processes, at most the number of utterances.
        devices: GPUs from `visible_devices`; empty: none.
        command: makes a job's command line.
        start_client: makes a dask client for a number of workers; without it they are local.
        threads: of each process; None: its share of this machine's cores.

    Raises:
        RuntimeError: if a process fails, with its name and the end of its log.
    """
    durations = {key: int(data.columns["utt2num_samples"][key]) for key in keys}
    shares = balance(durations, n_jobs)
    jobs = _prepare(request, data, shares, output_dir)
    waiting = [job for job in jobs if not job.result.exists()]
    environments = _environments(n_jobs, devices, threads)
    for job in waiting:
        job.progress.unlink(missing_ok=True)  # of a run that failed
    commands = [
        Command(tuple(command(job.share)), str(job.log), environments[job.number - 1])
        for job in waiting
    ]
    with terminated_as_interrupted(), _progress(jobs, len(keys), request.data_dir.name):
        ended = list(run_commands(commands, n_jobs, start_client))
    failed = {waiting[number]: status for number, status in ended if status != 0}
    if failed:
        raise RuntimeError(_failure(failed, len(jobs)))
    output = Output()
    for job in jobs:
        output.merge(Output(**json.loads(job.result.read_text(encoding="utf-8"))))
    shutil.rmtree(jobs[0].directory)
    return output


def _prepare(
    request: Request, data: DataDir, shares: Sequence[Sequence[str]], output_dir: Path
) -> list[Job]:
    """Write the shares, or keep those of an earlier run with the same fingerprint."""
    directory = output_dir / ".jobs"
    jobs = [Job(n + 1, directory, job_log(output_dir, n + 1)) for n in range(len(shares))]
    mark, value = directory / "fingerprint", fingerprint(request, data, shares)
    jobs[0].log.parent.mkdir(parents=True, exist_ok=True)
    if mark.exists() and mark.read_text(encoding="ascii") == value:
        done = [job.number for job in jobs if job.result.exists()]
        if done:
            print(f"finished jobs of an earlier run are kept: {', '.join(map(str, done))}")
        return jobs
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for job, keys in zip(jobs, shares, strict=True):
        content = {"request": request.to_json(), "keys": list(keys)}
        write_bytes(job.share, json.dumps(content).encode())
    for old in jobs[0].log.parent.glob("objsoup_inference.*.log"):
        old.unlink()
    write_bytes(mark, value.encode())
    return jobs


def _environments(
    n_jobs: int, devices: Sequence[str], threads: int | None = None
) -> list[dict[str, str]]:
    """What every job has in its environment: its share of the cores, and its GPU."""
    if threads is None:
        own = str(max(1, len(os.sched_getaffinity(0)) // n_jobs))
        omp = os.environ.get("OMP_NUM_THREADS", own)
        base = {"OMP_NUM_THREADS": omp, "MKL_NUM_THREADS": os.environ.get("MKL_NUM_THREADS", omp)}
    else:
        base = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    if not devices:
        return [base] * n_jobs
    return [{**base, "CUDA_VISIBLE_DEVICES": d} for d in assign_devices(devices, n_jobs)]


@contextmanager
def _progress(jobs: Sequence[Job], total: int, name: str) -> Iterator[None]:
    """One bar for the utterances of all jobs, while the block lasts."""
    ended = threading.Event()
    with tqdm(total=total, desc=f"decode {name} ({len(jobs)} jobs)", unit="utt") as bar:

        def watch() -> None:
            while not ended.wait(_POLL_S):
                show()

        def show() -> None:
            news = sum(job.decoded() for job in jobs) - bar.n
            if news:  # else a log gets a line at every look
                bar.update(news)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            show()


def _failure(failed: Mapping[Job, int | None], n_jobs: int) -> str:
    """What went wrong: every failed job, and how the first one's log ends."""
    sorted_jobs = sorted(failed.items(), key=lambda item: item[0].number)
    first = sorted_jobs[0][0]
    lines = read_log(first.log)
    errors = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    shown = lines[errors[-1] :][:_LOG_LINES] if errors else lines[-_LOG_LINES:]
    names = ", ".join(f"{job.number}{_how(status)}" for job, status in sorted_jobs)
    kept = n_jobs - len(failed)
    others = f" (results of the other {kept} are kept for the next run)" if kept else ""
    others += room_left(first.log)
    return (
        f"decoding: {len(failed)} of {n_jobs} jobs failed: {names}{others}. {first.log} ends:\n"
        + "\n".join(f"  {line}" for line in shown)
    )


def _how(status: int | None) -> str:
    return f" ({how_it_died(status)})" if died(status) else ""


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter(_LOG_FORMAT))
    with _verbose(handler):
        yield
    handler.close()


@contextmanager
def _verbose(handler: logging.Handler) -> Iterator[None]:
    """Our own messages to a handler; the search's, several per utterance, only as warnings."""
    root, search = logging.getLogger(), logging.getLogger("espnet2.legacy.nets")
    levels = root.level, search.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    search.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        search.setLevel(levels[1])


def run_share(share: Path) -> str:
    """Decode the share of one job; the result is there when all of it is."""
    content = json.loads(share.read_text(encoding="utf-8"))
    request, keys = Request.from_json(content["request"]), content["keys"]
    job = Job(int(share.stem), share.parent, share)
    parent = os.getppid()
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        with naming_place(job.progress):
            job.progress.write_text(str(done), encoding="ascii")
        if os.getppid() != parent:
            raise RuntimeError("the process that started this one is gone")

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_LOG_FORMAT))
    with _verbose(handler):
        output = decode(request, read(request.data_dir), keys, report)
    write_bytes(job.result, json.dumps(asdict(output)).encode())
    return f"job {job.number}: {len(keys)} utterances"


if __name__ == "__main__":
    sys.exit(run_command(lambda: run_share(Path(sys.argv[1]))))
