#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a soup costs on several processes, beside ESPnet's trainer with DistributedDataParallel.

Every process has a thread, a batch and a copy of the model; gradients go through gloo. The arms
take their steps in turns; ratios are taken to the plain step of the same turn. More processes than
cores share these: seconds are theirs, ratios still compare like with like.

Bytes are counted twice: those that the trainer gives to collectives of its own, per process and
step, exactly; and those that go over the loopback interface during a step, gradients, headers and
all, whoever sends them (the least of all turns).

    tools/venv/bin/python tools/benchmarks/step_distributed.py --processes 2 4
"""

import argparse
import logging
import os
import socket
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from espnet2.train.distributed_utils import DistributedOption
from step_arms import Arm, Bench, arms
from step_setup import SIZES, Data
from torch import Tensor, distributed, nn

ARMS = ("plain", "no refresh", "default", "refresh", "scan")


class DistributedBench(Bench):
    """A bench whose model is wrapped, one per process."""

    def __post_init__(self) -> None:
        """Wrap the model after it is built; the optimiser holds the same parameters."""
        super().__post_init__()
        self.inner = self.model
        self.model = nn.parallel.DistributedDataParallel(self.model)
        self.distributed = DistributedOption(
            distributed=True,
            dist_backend="gloo",
            dist_rank=distributed.get_rank(),
            dist_world_size=distributed.get_world_size(),
        )

    def unwrapped(self, model: nn.Module) -> nn.Module:
        """The model without its wrapper."""
        return self.inner if model is self.model else model


def work(rank: int, port: int, args: argparse.Namespace, processes: int, path: str) -> None:
    """One process."""
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"tcp://127.0.0.1:{port}", world_size=processes, rank=rank
    )
    data = Data(args.utterances, (1.0, 2.0))
    bench = DistributedBench(SIZES[args.size], data, args.objectives)
    chosen: list[Arm] = [arm for arm in arms(SIZES[args.size]) if arm.name in ARMS]
    times: dict[str, list[float]] = {arm.name: [] for arm in chosen}
    given: dict[str, list[float]] = {arm.name: [] for arm in chosen}
    sent: dict[str, list[float]] = {arm.name: [] for arm in chosen}
    for turn in range(args.repetitions + 1):
        for arm in chosen:
            distributed.barrier()
            before = loopback_bytes()
            with counted_collectives() as own:
                seconds = bench.measure(arm).wall_s
            distributed.barrier()
            if turn > 0:  # the first turn warms up
                times[arm.name].append(seconds)
                given[arm.name].append(own[0] / arm.steps)
                sent[arm.name].append((loopback_bytes() - before) / arm.steps)
    if rank == 0:
        with open(path, "a", encoding="utf-8") as file:
            for name, values in times.items():
                ratios = [a / b for a, b in zip(values, times["plain"], strict=True)]
                print(
                    f"|{args.size}|{args.objectives}|{processes}|{name}"
                    f"|{statistics.median(values):.3f}|{statistics.median(ratios):.3f}"
                    f"|{min(ratios):.3f} - {max(ratios):.3f}"
                    f"|{max(given[name]):.0f}|{min(sent[name]) / 1e6:.3f}|",
                    file=file,
                )
    distributed.destroy_process_group()


@contextmanager
def counted_collectives() -> Iterator[list[int]]:
    """Within it, bytes of tensors given to `torch.distributed.all_reduce` are added up."""
    total = [0]
    original = distributed.all_reduce

    def counting(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        total[0] += tensor.numel() * tensor.element_size()
        return original(tensor, *args, **kwargs)

    with mock.patch.object(distributed, "all_reduce", counting):
        yield total


def loopback_bytes() -> int:
    """Bytes that the loopback interface has carried so far."""
    path = Path("/sys/class/net/lo/statistics/tx_bytes")
    return int(path.read_text(encoding="ascii"))


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get_parser() -> argparse.ArgumentParser:
    """Parser of this benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--size", default="small", choices=list(SIZES))
    parser.add_argument("--objectives", type=int, default=11)
    parser.add_argument("--utterances", type=int, default=24, help="of each process")
    parser.add_argument("--repetitions", type=int, default=5)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table."""
    args = get_parser().parse_args(argv)
    with tempfile.NamedTemporaryFile() as file:
        for processes in args.processes:
            torch.multiprocessing.spawn(
                work, (free_port(), args, processes, file.name), nprocs=processes
            )
        rows = Path(file.name).read_text(encoding="utf-8")
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, torch {torch.__version__}")
    head = "|size|K|processes|step|s|/ plain|extremes|own bytes|MB over lo|"
    print(f"{head}\n{'|---' * 9}|")
    print(rows, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
