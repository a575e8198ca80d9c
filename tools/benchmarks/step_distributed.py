#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a soup costs on several processes, beside ESPnet's trainer with DistributedDataParallel.

Every process has a thread, a batch and a copy of the model; gradients go through gloo. The arms
take their steps in turns; ratios are taken to the plain step of the same turn. More processes than
cores share these: seconds are theirs, ratios still compare like with like.

    tools/venv/bin/python tools/benchmarks/step_distributed.py --processes 2 4
"""

import argparse
import logging
import os
import socket
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from espnet2.train.distributed_utils import DistributedOption
from step_arms import Arm, Bench, arms
from step_setup import SIZES, Data
from torch import distributed, nn

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
    for turn in range(args.repetitions + 1):
        for arm in chosen:
            distributed.barrier()
            seconds = bench.measure(arm).wall_s
            if turn > 0:  # the first turn warms up
                times[arm.name].append(seconds)
    if rank == 0:
        with open(path, "a", encoding="utf-8") as file:
            for name, values in times.items():
                ratios = [a / b for a, b in zip(values, times["plain"], strict=True)]
                print(
                    f"|{args.size}|{args.objectives}|{processes}|{name}"
                    f"|{statistics.median(values):.3f}|{statistics.median(ratios):.3f}"
                    f"|{min(ratios):.3f} - {max(ratios):.3f}|",
                    file=file,
                )
    distributed.destroy_process_group()


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
    print("|size|K|processes|step|s|/ plain|extremes|\n" + "|---" * 7 + "|")
    print(rows, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
