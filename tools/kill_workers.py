# SPDX-License-Identifier: Apache-2.0
"""Kills worker processes of stages 3, 10 and 12 and compares the results with those without kills.

Needs a copy of a recipe in which the stages up to 11 are done with the same options; what it has of
these stages is made again. Exits with 1 if a result differs, or if a stage fails.

tools/venv/bin/python tools/kill_workers.py egs2/mini_objsoup --size tiny --kills 3 --seed 1
"""

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

# Words on the command line of processes whose death a stage has to survive: dask's workers, the
# commands that they run, and the guards of these.
_WORKERS = (
    "multiprocessing.spawn",
    "multiprocessing.forkserver",
    "--collect_stats",
    ".decoding.jobs",
)
# Backwards: a stage that is done again makes those after it invalid.
_STAGES = (12, 10, 3)
# Of decode.json: how long it took.
_TIMES = ("decode_seconds", "wall_seconds", "rtf", "utterances_per_second")


def workers(stage: psutil.Process) -> list[psutil.Process]:
    """Worker processes that a stage has now."""
    found = []
    for process in stage.children(recursive=True):
        try:
            line = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if any(word in line for word in _WORKERS):
            found.append(process)
    return found


def kind(process: psutil.Process) -> str:
    """What a worker process is, in a word."""
    words = process.cmdline()
    if any("guard" in word for word in words[:4]):
        return "guard"
    return (
        "command" if {"--collect_stats"} & set(words) or ".decoding.jobs" in str(words) else "dask"
    )


def run_stage(
    command: Sequence[str], pauses: Sequence[float], draw: random.Random
) -> tuple[int, str, list[str]]:
    """Run a stage, killing one of its workers after each pause (seconds) in turn.

    Returns:
        Its exit status, its output, and what was killed.
    """
    killed: list[str] = []
    begin, pauses = time.monotonic(), list(pauses)
    with tempfile.TemporaryFile("w+") as output:
        stage = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        process = psutil.Process(stage.pid)
        while stage.poll() is None:
            due = pauses and time.monotonic() - begin >= pauses[0]
            if due and (there := workers(process)):
                victim = draw.choice(there)
                with suppress(psutil.NoSuchProcess):
                    what = kind(victim)
                    victim.send_signal(signal.SIGKILL)
                    killed.append(what)
                    begin = time.monotonic()
                    pauses.pop(0)
            time.sleep(0.02)
        output.seek(0)
        return stage.returncode, output.read(), killed


def forget(stage: int, recipe: Path) -> None:
    """Remove what a stage would take for finished."""
    if stage == 3:
        for directory in recipe.glob("dump*/raw"):
            shutil.rmtree(directory)


def digest(stage: int, root: Path) -> dict[str, str]:
    """Names of a stage's results, and checksums of what they hold."""
    patterns = {3: "dump*/raw/**/*", 10: "exp*/*stats*/**/*", 12: "exp*/*/decode*/**/*"}
    found = {}
    for path in sorted(root.glob(patterns[stage])):
        inside = path.relative_to(root)
        if not path.is_file() or {"logs", ".stages"} & set(inside.parts):
            continue
        if path.suffix == ".log" or path.name == "run.sh":
            continue
        found[str(inside)] = _content(path)
    return found


def _content(path: Path) -> str:
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            content = b"".join(arrays[name].tobytes() for name in sorted(arrays.files))
    elif path.name == "decode.json":
        lines = path.read_text().splitlines()
        content = "".join(x for x in lines if not any(f'"{name}"' in x for name in _TIMES)).encode()
    elif path.parent.name == "audio" and path.suffix == ".json":
        content = b""  # times of the sources
    else:
        content = path.read_bytes()
    return hashlib.sha256(content).hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    """Run all; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path, help="directory of a recipe whose output may be lost")
    parser.add_argument("--stages", type=int, nargs="+", default=_STAGES, choices=_STAGES)
    parser.add_argument("--kills", type=int, default=3, help="of each run of a stage")
    parser.add_argument("--runs", type=int, default=1, help="of each stage with kills")
    parser.add_argument("--seed", type=int, default=1)
    args, options = parser.parse_known_args(argv)
    draw, failures = random.Random(args.seed), 0
    for stage in args.stages:
        number = str(stage)
        command = [str(args.recipe / "run.sh"), *options, "--force", "true", "--stage", number]
        command += ["--stop_stage", number, "--nj", "2", "--inference_nj", "2"]
        forget(stage, args.recipe)
        begin = time.monotonic()
        status, output, _ = run_stage(command, [], draw)
        duration = time.monotonic() - begin
        if status != 0:
            print(output[-3000:])
            return 1
        expected = digest(stage, args.recipe)
        for _ in range(args.runs):
            forget(stage, args.recipe)
            pauses = [draw.uniform(0.0, duration / args.kills) for _ in range(args.kills)]
            status, output, killed = run_stage(command, pauses, draw)
            same = digest(stage, args.recipe) == expected
            failures += not (status == 0 and same and killed)
            print(
                f"stage {stage}: {len(expected)} files; killed {', '.join(killed) or 'nothing'}; "
                f"exit status {status}; {'the same' if same else 'ANOTHER'} result",
                flush=True,
            )
            if status != 0:
                print(output[-3000:], flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
