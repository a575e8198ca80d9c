#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where the time of a refreshing step goes.

Functions of the gradient engine are wrapped with timers; a part's time excludes that of the parts
inside it. Steps with and without measuring take turns. With one thread, processor time is counted,
which other work on the machine disturbs least; with several, time on the clock.

    tools/venv/bin/python tools/benchmarks/step_profile.py --size base --objectives 11 --layers 4
"""

import argparse
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from step_arms import NEVER, Arm, Bench
from step_setup import SIZES, Data

from espnet_objsoup.gradients import frontier, grouped, products, reuse, rules, sweep
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer

# Part -> functions.
PARTS: dict[str, list[tuple[Any, str]]] = {
    "cotangent passes": [(torch.autograd, "grad")],
    "rule: depthwise convolution": [(rules, "_depthwise")],
    "rules: norms, biases, views": [(frontier, "blocks_of_call"), (sweep, "blocks_of_call")],
    "gradients of matrices, own products": [
        (products.Products, "_add_one_by_one"),
        (products.Products, "_add_by_frames"),
        (products.Products, "_add_in_chunks"),
    ],
    "small parameters": [(products.Products, "_add_rows")],
    "sums S S^T": [(products.Products, "add")],
    "ways through the graph": [(grouped, "find_route"), (grouped, "split")],
    "gradients for the step": [(reuse.ReadyGradients, "add"), (sweep.Sweep, "_through_piece")],
    "rest of measuring": [(grouped.GroupedEngine, "measure_and_reuse")],
    "backward pass": [(torch.Tensor, "backward")],
}


class Timers:
    """Exclusive seconds of nested parts."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time that is spent within, less that of parts inside."""
        self._inner.append(0.0)
        begin = self.clock()
        try:
            yield
        finally:
            whole = self.clock() - begin
            own = whole - self._inner.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + own
            if self._inner:
                self._inner[-1] += whole

    def wrap(self, name: str, function: Callable) -> Callable:
        """The function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return timed


def profile(bench: Bench, arm: Arm, clock: Callable[[], float]) -> dict[str, float]:
    """Exclusive seconds of the parts of one step."""
    timers = Timers(clock)
    with ExitStack() as stack:
        for name, functions in PARTS.items():
            for owner, attribute in functions:
                wrapped = timers.wrap(name, getattr(owner, attribute))
                stack.enter_context(mock.patch.object(owner, attribute, wrapped))
        with timers.part("forward, update, reports"):
            bench.measure(arm)
    return timers.seconds


def get_parser() -> argparse.ArgumentParser:
    """Parser of this profile."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="base", choices=list(SIZES))
    parser.add_argument("--objectives", type=int, default=11)
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4], help="top layers")
    parser.add_argument("--utterances", type=int, default=Data.utterances)
    parser.add_argument("--seconds", type=float, nargs=2, default=Data.seconds)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table."""
    args = get_parser().parse_args(argv)
    logging.disable(logging.INFO)
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    bench = Bench(SIZES[args.size], Data(args.utterances, tuple(args.seconds)), args.objectives)
    chosen = {
        k: Arm(f"top {k}", ObjSoupTrainer, "", {
            "recipe": "flat", "weights_interval": 1 if k else NEVER,
            "layers": {"policy": "last_k", "last_k": max(k, 1)},
        }, phase=0 if k else 1)
        for k in [0, *args.layers]
    }  # fmt: skip
    found: dict[int, list[dict[str, float]]] = {k: [] for k in chosen}
    for turn in range(args.repetitions + 1):
        for k, arm in chosen.items():
            seconds = profile(bench, arm, clock)
            if turn > 0:
                found[k].append(seconds)
    print(f"{args.size}, K = {args.objectives}, {args.threads} threads, load {os.getloadavg()[0]}")
    result = {k: summarise(rows, found[0]) for k, rows in found.items()}
    names = list(dict.fromkeys(name for rows in result.values() for name in rows))
    print("|part|" + "|".join(f"top {k}" if k else "none" for k in result) + "|")
    print("|---" * (1 + len(result)) + "|")
    for name in names:
        cells = [
            f"{s:.3f} ({r:.3f})" for s, r in (row.get(name, (0, 0)) for row in result.values())
        ]
        print(f"|{name}|" + "|".join(cells) + "|")
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def summarise(
    rows: list[dict[str, float]], base: list[dict[str, float]]
) -> dict[str, tuple[float, float]]:
    """Part -> median seconds, and median of the share of a step that measures nothing."""
    names = dict.fromkeys(name for row in rows for name in row)
    wholes = [sum(row.values()) for row in base]
    result = {}
    for name in [*names, "step"]:
        values = [sum(r.values()) if name == "step" else r.get(name, 0.0) for r in rows]
        shares = [v / w for v, w in zip(values, wholes, strict=True)]
        result[name] = statistics.median(values), statistics.median(shares)
    return result


if __name__ == "__main__":
    sys.exit(main())
