# SPDX-License-Identifier: Apache-2.0
"""Trainings with faults, one after the other, forked from one process that has imported ESPnet.

Every training is the command of stage 11 on noise: `python -m tests.integration.fault_worker OUT`.
"""

import errno
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil
import soundfile
import torch
import yaml

from espnet_objsoup.bin import train
from espnet_objsoup.train import checkpoint_files
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from tests.integration.test_distributed import write_inputs
from tests.ports import free_port
from tests.unit.experiment import CONFIG

# How long processes wait for each other where one will never answer, and where all do, sooner or
# later: on a busy machine that may take long.
TIMEOUT_S = 30
PATIENCE_S = 300
COLUMNS = ("wav.scp", "text", "st_text", "utt2lang", "utt2tgt")
CONF = {
    **{key: value for key, value in CONFIG.items() if key not in ("objectives", "token_type")},
    "trainer": "objsoup",
    "trainer_conf": {"recipe": "static", "checkpoint_interval_steps": 2},
    "normalize": "utterance_mvn",
    "batch_bins": 96000,
    "max_epoch": 2,
    "num_att_plot": 0,
    "num_workers": 1,
    "use_tensorboard": False,
    "use_matplotlib": False,
    "optim": "adam",
    "keep_nbest_models": 1,
    "seed": 4,
}


def prepare(out: Path) -> None:
    write_inputs(out, train=24, valid=6)
    (out / "train.yaml").write_text(yaml.safe_dump(CONF))


def command(out: Path, name: str, *more: str) -> list[str]:
    return [
        *("--dist_backend", "gloo", "--config", f"{out}/train.yaml", "--resume", "true"),
        *("--train_dir", f"{out}/data/train", "--valid_dir", f"{out}/data/valid"),
        *("--stats_dir", f"{out}/stats", "--token_dir", f"{out}/tokens"),
        *("--output_dir", f"{out}/{name}", *more),
    ]  # fmt: skip


def at_step(wanted: int, act: Callable[[], None]) -> None:
    """Do something at the end of the n-th step of this process."""
    original = ObjSoupTrainer.end_step.__func__
    count = 0

    def end_step(cls: type, context: object) -> None:
        nonlocal count
        count += 1
        if count == wanted:
            act()
        original(cls, context)

    ObjSoupTrainer.end_step = classmethod(end_step)


def signalled(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def disk_fails(number: int, after: int) -> None:
    """The n-th file of tensors, and all after it, cannot be written."""
    original, count = checkpoint_files._serialise, 0

    def serialise(state: object, file: object) -> None:
        nonlocal count
        count += 1
        if count > after:
            file.write(b"half of it")
            raise OSError(number, os.strerror(number))
        original(state, file)

    checkpoint_files._serialise = serialise


def fork(log: Path, argv: Sequence[str], environment: dict[str, str], fault: Callable) -> int:
    """Train in a child with a session of its own; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.environ.update(environment)
        random.seed(0)
        fault()
        sys.argv = ["train", *argv]
        status = train.main(argv)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 98
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def alive(sessions: Sequence[int]) -> list[str]:
    """Processes of sessions, without zombies that init has yet to see."""
    found = []
    for process in psutil.process_iter(["pid", "name", "status"]):
        try:
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {process.name()} {process.status()}")
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found


def train_together(
    out: Path, name: str, faults: Sequence[Callable | None], *more: str,
    timeout_s: float = PATIENCE_S, limit_s: float = 600,
) -> dict:  # fmt: skip
    """Train in as many processes as there are faults; None starts none in its place.

    What has not ended after `limit_s`, which is less than PyTorch's own time-out, has no status.

    Returns:
        statuses (negative: signal), seconds until the last one ended that could, what is left of
        the processes, and their log.
    """
    port = str(free_port())
    log = out / f"{name}.log"
    begin = time.monotonic()
    pids: dict[int, int] = {}
    for rank, fault in enumerate(faults):
        environment = {"RANK": str(rank), "WORLD_SIZE": str(len(faults))}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment |= {"LOCAL_RANK": str(rank)} if len(faults) > 1 else {}
        environment |= {"OBJSOUP_PROCESS_TIMEOUT_S": str(timeout_s)}
        argv = command(out, name, "--multiprocessing_distributed", "false", *more)
        if fault is not None:
            pids[rank] = fork(log, argv, environment, fault)
    statuses: dict[int, int] = {}
    stopped = []
    while len(statuses) + len(stopped) < len(pids) and time.monotonic() - begin < limit_s:
        for rank, pid in pids.items():
            if rank in statuses or rank in stopped:
                continue
            done, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if done and os.WIFSTOPPED(status):
                stopped.append(rank)
            elif done:
                statuses[rank] = os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    seconds = time.monotonic() - begin
    for rank in stopped:  # what an operator does
        os.kill(pids[rank], signal.SIGKILL)
        os.waitpid(pids[rank], 0)
    deadline = time.monotonic() + 120
    while (left := alive(list(pids.values()))) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in pids.values():
        if alive([pid]):
            os.killpg(pid, signal.SIGKILL)
    ended = [statuses.get(rank) for rank in range(len(faults))]
    print(name, ended, f"{seconds:.1f} s", flush=True)
    text = log.read_text(errors="replace")
    return {"statuses": ended, "seconds": seconds, "left": left, "log": text, "stopped": stopped}


def none() -> None:
    """No fault."""


def full() -> None:
    """Two files of tensors find room, then the disk is full."""
    disk_fails(errno.ENOSPC, after=2)


def read_only() -> None:
    disk_fails(errno.EROFS, after=0)


def group_faults(out: Path) -> dict[str, dict]:
    """Two processes, as on two machines: nobody ends the one when the other has ended."""
    wanted = {
        "killed": (none, lambda: at_step(3, signalled(signal.SIGKILL))),
        "first_killed": (lambda: at_step(3, signalled(signal.SIGKILL)), none),
        "stopped": (none, lambda: at_step(3, signalled(signal.SIGSTOP))),
        "never_started": (none, None),
        "disk_full": (full, none),
        "read_only": (read_only, none),
    }
    found = {
        name: train_together(
            out,
            name,
            faults,
            timeout_s=TIMEOUT_S if name in ("stopped", "never_started") else PATIENCE_S,
        )
        for name, faults in wanted.items()
    }
    found["two"] = train_together(out, "two", (none, none))
    for name in ("killed", "disk_full"):
        found[name]["resumed"] = resumed(out, name, "two", 2)
    return found


def resumed(out: Path, name: str, straight: str, n: int = 1, *more: str) -> dict:
    """Train on without the fault; whether the end is that of a training without it."""
    found = train_together(out, name, [none] * n, *more)
    models = [torch.load(out / d / "2epoch.pth", weights_only=True) for d in (name, straight)]
    same = all(torch.equal(value, models[1][key]) for key, value in models[0].items())
    return {**found, "same": same}


def damage(how: str, path: Path) -> None:
    if how == "gone":
        path.unlink()
    elif how == "cut off":
        os.truncate(path, 5000)
    else:
        soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(20000), 16000)


def data_faults(out: Path) -> dict[str, dict]:
    """A file changes after the third step, when one checkpoint inside the epoch is written."""
    found = {"one": train_together(out, "one", [none])}
    cases = [
        ("gone", "train", "1"),
        ("cut off", "train", "1"),
        ("replaced", "train", "1"),
        ("gone", "train", "0"),
        ("gone", "valid", "1"),
    ]
    for how, split, workers in cases:
        path = out / "data" / split / "u004.wav"
        content = path.read_bytes()
        name = f"{how}, {split}, {workers} workers"
        options = ("--num_workers", workers)

        def fault(how: str = how, path: Path = path) -> None:
            at_step(3, lambda: damage(how, path))

        found[name] = train_together(out, name.replace(", ", "_"), [fault], *options)
        path.write_bytes(content)
        found[name]["resumed"] = resumed(out, name.replace(", ", "_"), "one", 1, *options)
    return found


# Samples at 16 kHz.
ODD = {
    "silence": np.zeros(12000),
    "constant": np.full(12000, 0.3),
    "clipped": np.sign(np.random.default_rng(1).standard_normal(12000)),
    "short": 0.1 * np.random.default_rng(2).standard_normal(160),
    "long": 0.1 * np.random.default_rng(3).standard_normal(56000),
    "wordless": 0.1 * np.random.default_rng(4).standard_normal(12000),
    "wordy": 0.1 * np.random.default_rng(5).standard_normal(12000),
}
ODD_TEXTS = {"wordless": "", "wordy": "abcdefgh " * 20}


def write_odd(out: Path, samples: dict[str, np.ndarray]) -> None:
    """The training data and odd utterances, as they can come only without stages 3 and 4."""
    columns = {name: (out / "data/train" / name).read_text() for name in COLUMNS}
    shapes = (out / "stats/train/speech_shape").read_text()
    shutil.copytree(out / "data/valid", out / "odd/data/valid")
    shutil.copytree(out / "stats/valid", out / "odd/stats/valid")
    for directory in ("data/train", "stats/train"):
        (out / "odd" / directory).mkdir(parents=True)
    for key, values in samples.items():
        wav = out / "odd/data/train" / f"{key}.wav"
        soundfile.write(wav, values, 16000, subtype="FLOAT")
        row = ODD_TEXTS.get(key, "abc"), "<na>", "en", "<na>"
        for name, value in zip(COLUMNS, (wav, *row), strict=True):
            columns[name] += f"{key} {value}\n"
        shapes += f"{key} {len(values)}\n"
    for name, text in columns.items():
        (out / "odd/data/train" / name).write_text(text)
    (out / "odd/stats/train/speech_shape").write_text(shapes)


def odd_utterances(out: Path) -> dict[str, dict]:
    """Utterances that stages 3 and 4 would not let through, or that are only unusual."""
    found = {}
    for name, samples in (("odd", ODD), ("empty", {"empty": np.zeros(0)})):
        shutil.rmtree(out / "odd", ignore_errors=True)
        write_odd(out, samples)
        more = ("--train_dir", f"{out}/odd/data/train", "--stats_dir", f"{out}/odd/stats")
        found[name] = train_together(out, f"{name}_utterances", [none], *more)
    state = torch.load(out / "odd_utterances/checkpoint.pth", weights_only=True)
    found["odd"]["faults"] = state["optimizers"][-1]["soup"]["faults"]
    stats = state["reporter"]["stats"][2]["train"]
    found["odd"]["infeasible"] = stats["infeasible_ctc_asr"]
    return found


PARTS = {"group": group_faults, "data": data_faults, "odd": odd_utterances}

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    torch.set_num_threads(1)
    prepare(directory)
    results = {name: PARTS[name](directory) for name in sys.argv[2:] or PARTS}
    (directory / "results.json").write_text(json.dumps(results))
