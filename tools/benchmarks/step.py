#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a training step costs: this package beside ESPnet's own trainer and other ways.

One model, one batch and the same losses for all arms; they take their steps in turns, through the
trainers themselves, reporting, clipping and the update included. Ratios are taken to the plain step
of the same turn, and their median is reported, since other work on the machine comes and goes.
Operations are counted with torch's FlopCounterMode, the formula of depthwise convolutions put
right; memory is the peak of allocated tensors, parameters and the optimiser's state included.

    tools/venv/bin/python tools/benchmarks/step.py --quick
    tools/venv/bin/python tools/benchmarks/step.py --json step.json --plot cost.svg
    tools/venv/bin/python tools/benchmarks/step.py --sizes base --objectives 3 11 41 --fast

K changes nothing but the languages of the utterances. Baselines that cost more than five plain
steps run at size small with K <= 21 only; what is not known from there is tried at size tiny.
"""

import argparse
import json
import logging
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler would talk
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from step_arms import Arm, Bench, Time, arms
from step_counts import operations, peak_bytes
from step_setup import SIZES, Data

from espnet_objsoup.evaluation.results import commit, machine

OBJECTIVES = (3, 11, 21, 41)
# Plain steps; baselines that cost more run at small sizes and numbers of objectives only.
DEAR = 5.0
DEAR_UP_TO = 21
# Runnable processes beyond our own threads, from which on times are not to be trusted.
BUSY = 0.5


def get_parser() -> argparse.ArgumentParser:
    """Parser of this benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="size small, K = 3 and 11, baselines at 11 only, in 3 minutes",
    )
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), help="default: all that fit")
    parser.add_argument("--objectives", type=int, nargs="+", help="K, odd; default 3 11 21 41")
    parser.add_argument("--arms", nargs="+", help="names of arms; plain is always among them")
    parser.add_argument("--fast", action="store_true", help="leave out the baselines")
    parser.add_argument("--repetitions", type=int, help="turns, default 5 (quick: 3)")
    parser.add_argument(
        "--baseline_repetitions", type=int, help="of baselines, default 5 (quick: 1)"
    )
    parser.add_argument("--utterances", type=int, help="of the batch, default 48 (quick: 24)")
    parser.add_argument(
        "--seconds", type=float, nargs=2, metavar=("SHORTEST", "LONGEST"),
        help="of utterances, default 1.5 3.5 (quick: 1 2)",
    )  # fmt: skip
    parser.add_argument("--ssl", default="none", help="none, cpc or best_rq: in every arm")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--amp", action="store_true", help="mixed precision, bfloat16 where known; cuda only"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all cores")
    parser.add_argument("--json", type=Path, help="write figures there as they come")
    parser.add_argument("--plot", type=Path, help="write cost against K there (SVG), size small")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = get_parser()
    args = complete(parser.parse_args(argv))
    if args.amp and args.device != "cuda":
        parser.error("--amp: ESPnet's trainer has mixed precision on GPUs only; add --device cuda")
    logging.disable(logging.INFO)
    torch.set_num_threads(args.threads)
    data = Data(args.utterances, tuple(args.seconds))
    setting = {
        "machine": machine(),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
        "threads": args.threads,
        "torch": torch.__version__,
        "commit": commit(Path(__file__).parent),
        "batch": asdict(data),
        "ssl": args.ssl,
        "amp": args.amp,
        "load_before": os.getloadavg()[0],
    }
    warn_if_busy(setting["load_before"])
    results: list[dict[str, Any]] = []
    for size in args.sizes:
        for k in args.objectives:
            results += run(size, k, data, args, results)
            setting["load_after"] = os.getloadavg()[0]
            if args.json is not None:  # what follows may take an hour, or all memory
                write(args.json, json.dumps({**setting, "results": results}, indent=2) + "\n")
    print("\n".join(f"{key}: {value}" for key, value in setting.items()))
    print(table(results))
    if args.plot is not None:
        from step_plot import cost_against_objectives

        cost_against_objectives(
            [row for row in results if row["size"] == "small"], args.plot, clock(args.device)
        )
    return 0


def complete(args: argparse.Namespace) -> argparse.Namespace:
    """Fill in what depends on --quick and --device."""
    everything = ["small", "base", *(["large"] if args.device == "cuda" else [])]
    defaults = {
        "sizes": (["small"], everything),
        "objectives": ([3, 11], list(OBJECTIVES)),
        "repetitions": (3, 5),
        "baseline_repetitions": (1, 5),
        "utterances": (24, 48),
        "seconds": ((1.0, 2.0), (1.5, 3.5)),
    }
    for name, (quick, full) in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, quick if args.quick else full)
    return args


def warn_if_busy(load: float) -> None:
    """Say so if others use the machine."""
    if load > BUSY:
        print(
            f"warning: load average {load:.1f} before the first step; seconds will be too high, "
            "ratios within a turn less so",
            file=sys.stderr,
        )


def clock(device: str) -> str:
    """Ratio to compare by: processor time, which other work disturbs least, or time with a GPU."""
    return "wall_s_ratio" if device == "cuda" else "cpu_s_ratio"


def run(
    size: str, k: int, data: Data, args: argparse.Namespace, earlier: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Figures of all arms for one size and number of objectives.

    Args:
        size, k, data, args: what to measure.
        earlier: figures of other sizes and numbers.
    """
    bench = Bench(SIZES[size], data, k, args.device, args.ssl, args.amp)
    chosen = [arm for arm in arms(SIZES[size]) if wanted(arm, size, k, args)]
    if size not in ("tiny", "small") or k > DEAR_UP_TO:
        chosen = [arm for arm in chosen if not is_dear(arm, k, data, args, earlier)]
    bench.measure(chosen[0])  # warms up; the optimiser's state is there from now on
    figures: dict[str, dict[str, Any]] = {}
    for arm in list(chosen):
        try:
            figures[arm.name] = count(bench, arm)
        except Exception as err:  # an arm of another library may not run: said in the table
            if arm.conf is not None or arm.name == "plain":
                raise
            figures[arm.name] = {"failed": f"{type(err).__name__}: {str(err).splitlines()[0]}"}
            chosen.remove(arm)
        print(f"{size}, K = {k}, {arm.name}: {figures[arm.name]}", file=sys.stderr, flush=True)
    times: dict[str, list[Time]] = {arm.name: [] for arm in chosen}
    for turn in range(max(args.repetitions, args.baseline_repetitions)):
        for arm in chosen:
            if turn < (args.baseline_repetitions if arm.baseline else args.repetitions):
                times[arm.name].append(bench.measure(arm))
    common = {"size": size, "objectives": k}
    return [
        {**common, "arm": arm.name, "note": arm.note, **summary(arm.name, figures, times)}
        for arm in arms(SIZES[size])
        if arm.name in figures
    ]


def wanted(arm: Arm, size: str, k: int, args: argparse.Namespace) -> bool:
    """Whether an arm runs."""
    if arm.name == "plain":
        return True
    if args.arms is not None and arm.name not in args.arms:
        return False
    if not arm.baseline:
        return True
    if args.quick and (k != max(args.objectives) or arm.name == "reference, all"):
        return False
    return not args.fast


def is_dear(
    arm: Arm, k: int, data: Data, args: argparse.Namespace, earlier: Sequence[dict[str, Any]]
) -> bool:
    """Whether a baseline costs more than five plain steps, as far as is known or quickly found."""
    if not arm.baseline:
        return False
    key = clock(args.device)
    known = [row[key] for row in earlier if row["arm"] == arm.name and key in row]
    if not known:
        bench = Bench(SIZES["tiny"], data, k, args.device, args.ssl, args.amp)
        plain = next(a for a in arms(SIZES["tiny"]) if a.name == "plain")
        try:
            seconds = [step_time(bench, each, args.device) for each in (plain, arm)]
        except Exception:  # why is said in the table
            return False
        known = [seconds[1] / seconds[0]]
    if max(known) > DEAR:
        print(f"K = {k}, {arm.name}: left out, {max(known):.1f} plain steps", file=sys.stderr)
    return max(known) > DEAR


def step_time(bench: Bench, arm: Arm, device: str) -> float:
    """Seconds of a step after one that warms up."""
    bench.measure(arm)
    return getattr(bench.measure(arm), clock(device).removesuffix("_ratio"))


def count(bench: Bench, arm: Arm) -> dict[str, Any]:
    """Operations and memory of a step, which warms up, too."""
    flops = 0

    def step() -> None:
        nonlocal flops
        flops = operations(lambda: bench.measure(arm))

    peak = peak_bytes(step, bench.device)
    return {"operations": flops / arm.steps, "bytes": bench.held_bytes(arm) + peak}


def summary(
    name: str, figures: dict[str, dict[str, Any]], times: dict[str, list[Time]]
) -> dict[str, Any]:
    """Medians, and ratios to the plain step of the same turn."""
    figure, plain = figures[name], figures["plain"]
    if "failed" in figure:
        return figure
    result = dict(figure)
    for clock in ("wall_s", "cpu_s"):
        values = [getattr(t, clock) for t in times[name]]
        base = [getattr(t, clock) for t in times["plain"]]
        ratios = [a / b for a, b in zip(values, base, strict=False)]
        result[clock] = values
        result[f"{clock}_median"] = statistics.median(values)
        result[f"{clock}_ratio"] = statistics.median(ratios)
        result[f"{clock}_ratio_quartiles"] = quartiles(ratios)
    result["operations_ratio"] = figure["operations"] / plain["operations"]
    result["bytes_ratio"] = figure["bytes"] / plain["bytes"]
    return result


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """First and third; the extremes of fewer than four values."""
    if len(values) < 4:
        return min(values), max(values)
    cuts = statistics.quantiles(values, n=4, method="inclusive")
    return cuts[0], cuts[2]


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    head = ["size", "K", "step", "s", "/ plain", "quartiles", "processor / plain"]
    head += ["operations / plain", "MB", "/ plain"]
    lines = [f"|{'|'.join(head)}|", f"{'|---' * len(head)}|"]
    for row in results:
        cells = [row["size"], str(row["objectives"]), row["arm"]]
        if "failed" in row:
            cells += [f"did not run: {row['failed']}", *[""] * 6]
        else:
            low, high = row["wall_s_ratio_quartiles"]
            cells += [f"{row['wall_s_median']:.3f}", f"{row['wall_s_ratio']:.3f}"]
            cells += [f"{low:.3f} - {high:.3f}", f"{row['cpu_s_ratio']:.3f}"]
            cells += [f"{row['operations_ratio']:.3f}", f"{row['bytes'] / 1e6:.0f}"]
            cells += [f"{row['bytes_ratio']:.3f}"]
        lines.append(f"|{'|'.join(cells)}|")
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """To a temporary name, then renamed."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.rename(path)


if __name__ == "__main__":
    sys.exit(main())
