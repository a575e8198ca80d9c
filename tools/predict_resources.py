#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Expected disk, GPU memory and time of the recipes' trainings: computed, not measured.

The model of a configuration is built on the CPU and run on a few short batches; what autograd keeps
and the operations are counted and extended to the configured batches (resources/step.py). Hours
follow from the corpus, a GPU's peak and the share of it that training reaches.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from resources.facts import FACTS, GPUS, Facts, disk
from resources.step import Shape, Step, make_batch, measure
from torch import Tensor

from espnet_objsoup.tasks.objective_discovery import languages_of
from espnet_objsoup.tasks.objsoup import ObjSoupTask

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ("train.yaml", "train_small.yaml", "train_large.yaml")
GIB = 2**30
# CUDA's context and libraries.
CONTEXT_BYTES = 1.0 * GIB
# Peak of a step over what autograd keeps: gradients on their way, and what a step that scans all
# layers for conflicts holds besides (1.2 of a plain step at its peak, docs/engine.md).
PEAK_RATIO = 1.2
# Padded over unpadded samples.
PADDING = 1.1
# ESPnet says of its E-Branchformer for LibriSpeech that an epoch (three speeds) takes 40 minutes on
# eight A100; `--anchor` relates that to the operations of the same model.
ANCHOR_HOURS, ANCHOR_GPUS, ANCHOR_S = 3 * 960.9, 8, 40 * 60
UTILISATION = 0.05
_CARD = re.compile(r"^#\s+(\d+) GB: --train_args \"--batch_bins (\d+) --accum_grad (\d+)\"", re.M)


@dataclass(frozen=True)
class Training:
    """A configuration of a recipe.

    Attributes:
        recipe: name in FACTS.
        path: of the YAML.
        conf: its content.
        step: of its model.
        batches: GB of a card -> (batch_bins, accum_grad), by the file and its comments.
    """

    recipe: str
    path: Path
    conf: dict[str, Any]
    step: Step
    batches: dict[int, tuple[int, int]]

    @property
    def facts(self) -> Facts:
        """The corpus."""
        return FACTS[self.recipe]

    def memory_bytes(self, bins: int) -> float:
        """Peak on one GPU: the worse of a batch of mean and one of longest utterances."""
        kept = max(
            self.step.saved_bytes(self._shape(seconds, bins))
            for seconds in (self.facts.mean_s, self.facts.longest_s)
        )
        return self.step.state_bytes() + PEAK_RATIO * kept + 4.0 * bins + CONTEXT_BYTES

    def epoch_operations(self) -> float:
        """Operations of an epoch, with padding; a soup's measurements come on top."""
        bins = self.conf["batch_bins"]
        samples = self.facts.train_hours * 3600 * 16000
        batch = self.step.operations(self._shape(self.facts.mean_s, bins))
        return batch * samples / bins * PADDING

    def epoch_hours(self, memory_gb: int, utilisation: float) -> float:
        """On one GPU."""
        return self.epoch_operations() / (GPUS[memory_gb].peak_tflops * 1e12 * utilisation) / 3600

    def _shape(self, seconds: float, bins: int) -> Shape:
        return Shape(bins / 16000 / seconds, seconds, self.facts.tokens_per_second * seconds)


def read_batches(path: Path) -> dict[int, tuple[int, int]]:
    """Batches by card: 24 GB as configured, others as a comment of the file says."""
    text = path.read_text(encoding="utf-8")
    conf = yaml.safe_load(text)
    found = {24: (int(conf["batch_bins"]), int(conf["accum_grad"]))}
    for memory, bins, accum in _CARD.findall(text):
        found[int(memory)] = (int(bins), int(accum))
    return found


def write_tokens(path: Path, facts: Facts) -> None:
    """A token list of the corpus' size, with symbols of its languages."""
    languages = [f"<{lang}>" for lang in languages_of(facts.objectives())]
    symbols = ["<blank>", "<unk>", *languages]
    rest = (f"t{i}" for i in range(facts.vocabulary - len(symbols) - 1))
    path.write_text("\n".join([*symbols, *rest, "<sos/eos>"]) + "\n", encoding="utf-8")


def build(path: Path, facts: Facts, more: Sequence[str] = ()) -> tuple[argparse.Namespace, Any]:
    """The options and the model of a configuration.

    Args:
        path: of the YAML.
        facts: of the corpus.
        more: options of the command line that go before the YAML.
    """
    with tempfile.TemporaryDirectory() as directory:
        write_tokens(Path(directory) / "tokens.txt", facts)
        command = ["--config", str(path), "--token_list", f"{directory}/tokens.txt"]
        command += ["--output_dir", directory, *more]
        args = ObjSoupTask.get_parser().parse_args(command)
        if not args.objectives:
            args.objectives = [*facts.objectives(), *(["ssl"] if args.ssl else [])]
        return args, ObjSoupTask.build_model(args)


def measure_config(path: Path, facts: Facts, more: Sequence[str] = ()) -> Step:
    """Build a configuration's model and count its step."""
    args, model = build(path, facts, more)
    codes = model.languages
    pair = facts.pairs[0].split("-") if facts.pairs else [next(iter(facts.hours)), None]
    rows = {
        name: codes.index(code) if code in codes else -1
        for name, code in zip(("source", "target"), pair, strict=True)
    }

    def batches(shape: Shape) -> dict[str, Tensor]:
        return make_batch(shape, rows, facts.vocabulary)

    return measure(model, batches, half=bool(args.use_amp))


def predict(recipe: str, name: str) -> Training:
    """A configuration below the recipe's conf/."""
    path = ROOT / "egs2" / f"{recipe}_objsoup" / "conf" / name
    conf = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Training(
        recipe, path, conf, measure_config(path, FACTS[recipe]), read_batches(path)
    )  # fmt: skip


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def memory_table(trainings: Sequence[Training]) -> str:
    """Parameters and memory by card."""
    rows = []
    for t in trainings:
        # A batch of mean utterances; 1000 s are 16 million samples.
        per_1000_s = t.step.saved_bytes(t._shape(t.facts.mean_s, 16_000_000))
        row = [t.recipe, f"`{t.path.name}`", f"{t.step.parameters / 1e6:.1f}"]
        row += [f"{t.step.state_bytes() / GIB:.1f}", f"{per_1000_s / GIB:.1f}"]
        for memory in GPUS:
            bins, accum = t.batches[memory]
            row.append(f"{bins / 1e6:g} M x {accum}: {t.memory_bytes(bins) / GIB:.1f}")
        rows.append(row)
    header = ["recipe", "config", "parameters (M)", "states", "kept for 1000 s"]
    return table([*header, *(gpu.name for gpu in GPUS.values())], rows)


def in_words(hours: float) -> str:
    """Days from two of them on, so that no time is rounded to nothing."""
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def time_table(trainings: Sequence[Training], utilisation: float) -> str:
    """Operations and hours."""
    rows = []
    for t in trainings:
        epochs = t.conf["max_epoch"]
        effective = t.conf["batch_bins"] * t.conf["accum_grad"]
        steps = t.facts.train_hours * 3600 * 16000 * PADDING / effective
        row = [t.recipe, f"`{t.path.name}`", f"{steps:.0f}", f"{t.epoch_operations() / 1e15:.0f}"]
        for memory in GPUS:
            hours = t.epoch_hours(memory, utilisation)
            row.append(f"{hours:.2g} x {epochs} = {in_words(hours * epochs)}")
        rows.append(row)
    header = ["recipe", "config", "steps", "10^15 operations"]
    return table([*header, *(gpu.name for gpu in GPUS.values())], rows)


def disk_table(trainings: Sequence[Training]) -> str:
    """Space on disk, in GB of 10^9 bytes."""
    rows = []
    for t in trainings:
        space = disk(t.recipe, t.step.parameters, t.conf["keep_nbest_models"])
        row = [
            t.recipe,
            f"`{t.path.name}`",
            f"{t.facts.train_hours:.0f} + {t.facts.eval_hours:.0f}",
        ]
        rows.append([*row, *(f"{x / 1e9:.0f}" for x in vars(space).values())])
    return table(["recipe", "config", "hours", "corpus", "dump", "an experiment"], rows)


def anchor() -> float:
    """Share of their peak that ESPnet's published time for an epoch on eight A100 means."""
    path = ROOT / "egs2" / "librispeech_objsoup" / "conf" / "train_large.yaml"
    facts = FACTS["librispeech"]
    step = measure_config(path, facts, ["--ssl", "none"])
    seconds = ANCHOR_HOURS * 3600
    shape = Shape(seconds / facts.mean_s, facts.mean_s, facts.tokens_per_second * facts.mean_s)
    # The batch's constant terms vanish in a batch as large as an epoch.
    return step.operations(shape) / (ANCHOR_GPUS * GPUS[40].peak_tflops * 1e12 * ANCHOR_S)


def get_parser() -> argparse.ArgumentParser:
    """Parser of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=list(FACTS), choices=list(FACTS))
    parser.add_argument("--configs", nargs="+", default=CONFIGS, help="below the recipe's conf/")
    parser.add_argument(
        "--utilisation", type=float, default=UTILISATION, help="reached share of a GPU's peak"
    )
    parser.add_argument(
        "--anchor", action="store_true", help="print the share that ESPnet's published time means"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; returns the exit status."""
    args = get_parser().parse_args(argv)
    torch.manual_seed(0)
    if args.anchor:
        print(f"utilisation {anchor():.3f}")
        return 0
    trainings = []
    for recipe in args.recipes:
        for name in args.configs:
            print(f"counting {recipe} {name}", file=sys.stderr, flush=True)
            trainings.append(predict(recipe, name))
    print("GPU memory in GiB (computed, not measured):\n")
    print(memory_table(trainings))
    reached = f"with one GPU at {args.utilisation:.0%} of its peak"
    print(f"\nHours of an epoch x epochs, {reached} (computed):\n")
    print(time_table(trainings, args.utilisation))
    print("\nDisk in GB (computed):\n")
    print(disk_table(trainings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
