# SPDX-License-Identifier: Apache-2.0
"""Stage 10: shapes and feature statistics, in parallel jobs.

Every job is ESPnet's own `--collect_stats true` on a share of the utterances; the shares are put
together by ESPnet's aggregate_stats_dirs.
"""

import argparse
import hashlib
import itertools
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from espnet_objsoup.bin.cli import main_guard, make_parser, positive_int, run_command
from espnet_objsoup.bin.data_options import add_cluster
from espnet_objsoup.bin.input_checks import check_tokens
from espnet_objsoup.bin.train import expand
from espnet_objsoup.data.cluster_jobs import client_starter
from espnet_objsoup.data.commands import Command, died, how_it_died, read_log, run_commands
from espnet_objsoup.data.files import naming_place, room_left, write_bytes
from espnet_objsoup.data.parallel import ONE_THREAD, StartClient

SPLITS = ("train", "valid")
LOGS = "logs"


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command; unknown options go to training as they are."""
    parser = make_parser(
        "collect_stats",
        "Collect shapes and feature statistics of the training and validation data.",
        epilog="Options not listed here are handed to espnet_objsoup.bin.train.",
    )
    parser.add_argument("--train_dir", type=Path, required=True, help="data directory (stage 4)")
    parser.add_argument("--valid_dir", type=Path, required=True, help="data directory (stage 4)")
    parser.add_argument("--token_dir", type=Path, required=True, help="token list (stage 5)")
    parser.add_argument("--output_dir", type=Path, required=True, help="result")
    parser.add_argument("--nj", type=positive_int, default=1, help="parallel jobs")
    add_cluster(parser)
    return parser


def read_keys(data_dir: Path) -> list[str]:
    """Utterance ids of a data directory, in its order.

    Raises:
        ValueError: if the directory has no utterance.
    """
    path = data_dir / "wav.scp"
    with open(path, encoding="utf-8") as file:
        keys = [line.split(maxsplit=1)[0] for line in file if line.strip()]
    if not keys:
        raise ValueError(f"{path}: expected at least one utterance, found none; run stages 1 to 4")
    return keys


def split_keys(keys: Sequence[str], n: int) -> list[list[str]]:
    """At most `n` contiguous, non-empty shares of nearly equal size."""
    n = max(1, min(n, len(keys)))
    bounds = [len(keys) * i // n for i in range(n + 1)]
    return [list(keys[a:b]) for a, b in itertools.pairwise(bounds)]


def write_key_files(args: argparse.Namespace, work: Path) -> int:
    """Write `work`/JOB/{train,valid}.keys, JOB from 1; returns the number of jobs.

    Jobs that are there already keep what they have done.
    """
    shares = {
        "train": split_keys(read_keys(args.train_dir), args.nj),
        "valid": split_keys(read_keys(args.valid_dir), args.nj),
    }
    n_jobs = min(len(share) for share in shares.values())
    if n_jobs < max(len(share) for share in shares.values()):
        # A job needs utterances of both sets.
        shares["train"] = split_keys(read_keys(args.train_dir), n_jobs)
        shares["valid"] = split_keys(read_keys(args.valid_dir), n_jobs)
    for job in range(n_jobs):
        directory = work / str(job + 1)
        directory.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            lines = "".join(f"{key}\n" for key in shares[split][job])
            write_bytes(directory / f"{split}.keys", lines.encode())
    return n_jobs


def job_command(args: argparse.Namespace, rest: Sequence[str], directory: Path) -> list[str]:
    """Command line of one job."""
    command = [sys.executable, "-m", "espnet_objsoup.bin.train", "--collect_stats", "true"]
    command += ["--train_dir", str(args.train_dir), "--valid_dir", str(args.valid_dir)]
    command += ["--token_dir", str(args.token_dir), "--output_dir", str(directory)]
    for split in SPLITS:
        command += [f"--{split}_shape_file", str(directory / f"{split}.keys")]
    # Normalisation comes after what is collected; global_mvn has nothing to read yet. A job is one
    # process on the CPU, however training is going to be distributed.
    return [*command, *rest, "--normalize", "none", "--ngpu", "0"]


def job_log(directory: Path) -> Path:
    """Log of the job that works in a directory."""
    return directory.parent / LOGS / f"stats.{directory.name}.log"


def failure(directories: Sequence[Path], failed: int, status: int | None) -> str:
    """What went wrong with a job, in words, with the reason that its log gives.

    Args:
        directories: of all jobs.
        failed: the job.
        status: its exit status; None if its worker died repeatedly.
    """
    log = job_log(directories[failed])
    lines = read_log(log)
    # Training says in one line what the user can mend; after anything else the traceback helps.
    begin = next((i for i, line in enumerate(lines) if line.startswith("error: ")), None)
    reason = lines[-15:] if begin is None else lines[begin:]
    how = how_it_died(status) if died(status) else f"exit status {status}"
    return (
        f"collect_stats: job {directories[failed].name} of {len(directories)} failed ({how}); "
        f"finished ones are kept{room_left(log)}. {log} ends:\n" + "\n".join(reason)
    )


def done_mark(directory: Path) -> Path:
    """File that tells that the job of a directory has ended well."""
    return directory / ".done"


def fingerprint(args: argparse.Namespace, rest: Sequence[str]) -> str:
    """Hash of all that the shares depend on: options, and size and time of the files they name."""
    words = [str(args.nj), *map(str, (args.train_dir, args.valid_dir, args.token_dir)), *rest]
    named = [Path(word) for word in words if os.path.isfile(word)]
    inside = [
        path
        for directory in (args.train_dir, args.valid_dir, args.token_dir)
        for path in sorted(directory.iterdir())
        if path.is_file()
    ]
    files = [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in (*named, *inside)]
    return hashlib.sha256(json.dumps([words, files]).encode()).hexdigest()


def prepare(args: argparse.Namespace, rest: Sequence[str], work: Path) -> list[Path]:
    """Directories of all jobs; those of an earlier run stay if they have the same fingerprint."""
    mark, value = work / "fingerprint", fingerprint(args, rest)
    if not mark.exists() or mark.read_text(encoding="ascii") != value:
        shutil.rmtree(work, ignore_errors=True)
    directories = [work / str(job + 1) for job in range(write_key_files(args, work))]
    write_bytes(mark, value.encode())
    return directories


def run_jobs(
    commands: Sequence[list[str]],
    directories: Sequence[Path],
    n_jobs: int,
    start_client: StartClient | None,
) -> None:
    """Run jobs that are not done, each with one thread.

    Raises:
        RuntimeError: as soon as a job fails, with the end of its log; the others are ended, for
            what the one finds wrong all do. After those that were killed the others go on.
    """
    killed: dict[int, int | None] = {}
    waiting = [i for i, directory in enumerate(directories) if not done_mark(directory).exists()]
    if len(waiting) < len(directories):
        print(f"{len(directories) - len(waiting)} finished job(s) of an earlier run are kept")
    job_log(directories[0]).parent.mkdir(exist_ok=True)
    todo = [
        Command(tuple(commands[i]), str(job_log(directories[i])), ONE_THREAD, header=True)
        for i in waiting
    ]
    with tqdm(total=len(todo), desc="collect statistics", unit="job") as progress:
        for number, status in run_commands(todo, n_jobs, start_client):
            progress.update()
            if died(status):  # which is no reason to end the others
                killed[waiting[number]] = status
            elif status != 0:
                raise RuntimeError(failure(directories, waiting[number], status))
            else:
                done_mark(directories[waiting[number]]).touch()
    if killed:
        first = min(killed)
        others = ", ".join(directories[i].name for i in sorted(killed) if i != first)
        more = f"\nJobs that failed besides: {others}" if others else ""
        raise RuntimeError(failure(directories, first, killed[first]) + more)


def collect(args: argparse.Namespace, rest: Sequence[str]) -> str:
    """Run the jobs and put their statistics together; returns what was made, in words."""
    start_client = client_starter(args.cluster, args.output_dir.with_name("cluster_logs"))
    # What every job would find wrong is found once, before any of them has imported ESPnet.
    data = ["--train_dir", str(args.train_dir), "--valid_dir", str(args.valid_dir)]
    expand([*data, "--token_dir", str(args.token_dir), *rest])
    for split, directory in zip(SPLITS, (args.train_dir, args.valid_dir), strict=True):
        warning = check_tokens(directory, args.token_dir, strict=split == "train")
        if warning is not None:
            print(warning, file=sys.stderr)
    work = args.output_dir.with_name(args.output_dir.name + ".tmp")
    directories = prepare(args, rest, work)
    commands = [job_command(args, rest, directory) for directory in directories]
    run_jobs(commands, directories, args.nj, start_client)
    from espnet2.bin.aggregate_stats_dirs import aggregate_stats_dirs

    merged = work / "merged"
    shutil.rmtree(merged, ignore_errors=True)  # of a run that had no room for it
    with naming_place(merged):
        aggregate_stats_dirs([str(d) for d in directories], str(merged), "WARNING", False)
    os.replace(work / LOGS, merged / LOGS)
    shutil.rmtree(args.output_dir, ignore_errors=True)
    args.output_dir.parent.mkdir(parents=True, exist_ok=True)
    os.replace(merged, args.output_dir)
    shutil.rmtree(work)
    n = sum(len(read_keys(d)) for d in (args.train_dir, args.valid_dir))
    return f"{args.output_dir}: statistics of {n} utterances, {len(directories)} jobs"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args, rest = get_parser().parse_known_args(argv)
    return run_command(lambda: collect(args, rest))


if __name__ == "__main__":
    main_guard(main)
