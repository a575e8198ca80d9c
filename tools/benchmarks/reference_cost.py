#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What measuring gradients costs: time and memory of a training step.

For K = 3, 7 and 11 objectives one model (E-Branchformer, 6 blocks of 144, two decoders of 2 blocks)
takes the steps of

    default             ESPnet's own trainer (trainer: default)
    objsoup             recipe flat in a step that does not measure
    objsoup, last 2     the same in a step that measures the last two layers
    objsoup, all        the same in a step that measures all layers

on a batch of noise. K changes labels only: the utterances are the same, the languages share them
out evenly, and all languages but English are translated. Every system is a process of its own with
one thread; they take turns, and the table has medians over turns. Seconds are processor time, which
other work on the machine disturbs less than the time on the clock; --json has both. Memory is the
peak of the process beyond what it held before its first step, so it includes gradients and the
optimiser's state.

    tools/venv/bin/python tools/benchmarks/reference_cost.py --json cost.json
"""

import argparse
import copy
import json
import logging
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import yaml
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import Reporter
from espnet2.train.trainer import Trainer

from espnet_objsoup.evaluation.results import commit, machine
from espnet_objsoup.tasks.objsoup import ObjSoupTask
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from espnet_objsoup.train.soup_run import SoupRun

RATE_HZ = 16000
# K -> spoken languages; those after `en` that are named in PAIRS are translated into English.
LANGUAGES = {
    3: ("en", "fr"),
    7: ("en", "fr", "de", "es"),
    11: ("en", "fr", "de", "es", "ca", "zh"),
}
NEVER = 10**9
SYSTEMS: dict[str, dict[str, Any] | None] = {
    "default": None,
    "objsoup": {"weights_interval": NEVER, "layers": {"policy": "last_k"}},
    "objsoup, last 2": {"weights_interval": 1, "layers": {"policy": "last_k", "last_k": 2}},
    "objsoup, all": {"weights_interval": 1, "layers": {"policy": "all"}},
}


def get_parser() -> argparse.ArgumentParser:
    """Parser of this benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--objectives", type=int, nargs="*", default=list(LANGUAGES), choices=list(LANGUAGES),
        help="numbers K of objectives, default %(default)s",
    )  # fmt: skip
    parser.add_argument("--engine", default="reference", help="default %(default)s")
    parser.add_argument("--utterances", type=int, default=12, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each, default %(default)s")
    parser.add_argument("--turns", type=int, default=5, help="default %(default)s")
    parser.add_argument("--json", type=Path, help="write all figures there")
    return parser


def objectives_of(languages: Sequence[str]) -> list[str]:
    """Recognition of every language and translation of all but English."""
    return [f"asr/{x}" for x in languages] + [f"st/{x}-en" for x in languages if x != "en"]


def parse(directory: Path, n_objectives: int, conf: dict[str, Any] | None) -> argparse.Namespace:
    """Arguments of a training run: the mini recipe's front end, 6 blocks of 144."""
    root = Path(__file__).parents[2]
    base = root / "egs2" / "mini_objsoup" / "conf" / "train.yaml"
    options = yaml.safe_load(base.read_text(encoding="utf-8"))
    options["encoder_conf"] |= {"output_size": 144, "num_blocks": 6}
    options |= {"trainer": "default" if conf is None else "objsoup", "trainer_conf": conf or {}}
    (directory / "train.yaml").write_text(yaml.safe_dump(options), encoding="utf-8")
    languages = LANGUAGES[n_objectives]
    symbols = ["<blank>", "<unk>", *(f"<{x}>" for x in languages)]
    tokens = [*symbols, *(f"t{i}" for i in range(250 - len(symbols) - 1)), "<sos/eos>"]
    (directory / "tokens.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return ObjSoupTask.get_parser().parse_args(
        ["--config", f"{directory}/train.yaml", "--token_list", f"{directory}/tokens.txt",
         "--output_dir", str(directory), "--objectives", *objectives_of(languages)]
    )  # fmt: skip


def make_batch(languages: Sequence[str], utterances: int, seconds: float) -> tuple[list[str], dict]:
    """Noise with 12 tokens per text, evenly over languages."""
    generator = torch.Generator().manual_seed(1)
    codes = sorted(languages)
    lang = torch.arange(utterances)[:, None] % len(codes)
    translated = lang[:, 0] != codes.index("en")
    tokens = torch.randint(20, 200, (utterances, 12), generator=generator)
    samples = int(RATE_HZ * seconds)
    batch = {
        "speech": torch.randn(utterances, samples, generator=generator),
        "speech_lengths": torch.full((utterances,), samples),
        "lang": lang,
        "tgt_lang": torch.where(translated, codes.index("en"), -1)[:, None],
        "text": tokens,
        "text_lengths": torch.full((utterances,), 12),
        "st_text": torch.where(translated[:, None], tokens, -1),
        "st_text_lengths": torch.where(translated, 12, 0),
    }
    return [f"u{i}" for i in range(utterances)], batch


class System:
    """A model, its optimiser and a trainer, which takes one step at a time."""

    def __init__(self, args: argparse.Namespace, directory: Path, n: int, name: str) -> None:
        conf = SYSTEMS[name]
        if conf is not None:
            conf = {"recipe": "flat", "gradient_engine": args.engine, **conf}
        task_args = parse(directory, n, conf)
        torch.manual_seed(1)
        self.model = ObjSoupTask.build_model(task_args)
        self.optimizers = ObjSoupTask.build_optimizers(task_args, self.model)
        self.trainer = Trainer if conf is None else ObjSoupTrainer
        self.options = self.trainer.build_options(task_args)
        self.options.log_interval = NEVER
        if conf is not None:
            self.options.run = SoupRun(self.options.soup, self.model)
            self.options.run.steps = 1  # the first step of all is one that measures
        self.distributed = DistributedOption()
        self.distributed.init_options()
        self.reporter = Reporter()
        self.batch = make_batch(LANGUAGES[n], args.utterances, args.seconds)

    def step(self) -> tuple[float, float]:
        """One step, as an epoch of one batch; seconds of the processor and on the clock."""
        names, batch = copy.deepcopy(self.batch)
        self.reporter.set_epoch(self.reporter.get_epoch() + 1)
        with self.reporter.observe("train") as reporter:
            start = time.process_time(), time.perf_counter()
            self.trainer.train_one_epoch(
                model=self.model,
                iterator=[(names, batch)],
                optimizers=self.optimizers,
                schedulers=[None],
                scaler=None,
                reporter=reporter,
                summary_writer=None,
                options=self.options,
                distributed_option=self.distributed,
            )
            return time.process_time() - start[0], time.perf_counter() - start[1]


def memory_mb(key: str) -> float:
    """`VmRSS` (now) or `VmHWM` (peak) of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(row.split()[1]) / 1024 for row in status.splitlines() if row.startswith(key))


def serve(pipe: Connection, args: argparse.Namespace, n: int, name: str) -> None:
    """A child: builds a system and takes a step whenever it is told to."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        system = System(args, Path(directory), n, name)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts here
    before = memory_mb("VmRSS")
    pipe.send("ready")
    while pipe.recv():
        pipe.send(system.step())
    pipe.send(memory_mb("VmHWM") - before)


def measure(args: argparse.Namespace, n: int) -> dict[str, dict[str, Any]]:
    """Steps of all systems with n objectives, taken in turns."""
    context = multiprocessing.get_context("fork")  # ESPnet is imported once
    pipes: dict[str, Connection] = {}
    for name in SYSTEMS:
        pipes[name], theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, args, n, name), daemon=True).start()
        pipes[name].recv()
    found: dict[str, dict[str, Any]] = {name: {"cpu_s": [], "clock_s": []} for name in SYSTEMS}
    for turn in range(args.turns + 1):
        for name, pipe in pipes.items():
            pipe.send(True)
            cpu, clock = pipe.recv()
            if turn > 0:  # the first step warms up
                found[name]["cpu_s"].append(cpu)
                found[name]["clock_s"].append(clock)
    for name, pipe in pipes.items():
        pipe.send(False)
        found[name]["memory_mb"] = pipe.recv()
        print(f"K = {n}, {name}: {statistics.median(found[name]['cpu_s']):.2f} s", file=sys.stderr)
    return found


def table(results: dict[int, dict[str, dict[str, Any]]]) -> str:
    """Markdown; ratios are medians of the ratios within turns."""
    lines = ["|K|step|s|/ default|MB|/ default|", "|---|---|---|---|---|---|"]
    for n, found in results.items():
        base = found["default"]
        for name, values in found.items():
            pairs = zip(values["cpu_s"], base["cpu_s"], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            seconds = statistics.median(values["cpu_s"])
            memory = values["memory_mb"]
            lines.append(
                f"|{n}|{name}|{seconds:.2f}|{ratio:.2f}|{memory:.0f}|"
                f"{memory / base['memory_mb']:.2f}|"
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    args = get_parser().parse_args(argv)
    logging.disable(logging.INFO)
    setting = {
        "machine": machine(),
        "threads": 1,
        "commit": commit(Path(__file__).parent),
        "engine": args.engine,
        "utterances": args.utterances,
        "seconds": args.seconds,
        "turns": args.turns,
    }
    results = {n: measure(args, n) for n in args.objectives}
    print("\n".join(f"{key}: {value}" for key, value in setting.items()))
    print(table(results))
    if args.json is not None:
        content = {**setting, "results": results}
        args.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
