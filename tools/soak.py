# SPDX-License-Identifier: Apache-2.0
"""Trains for many steps and watches what must not grow: memory, file handles, threads, logs.

A small model is trained on noise with `trainer: objsoup` in this process, as stage 11 does it:
reading, sampling, measuring, refreshes, scans, validation, checkpoints, TensorBoard. Fails if
anything grows by more than BOUNDS allow.

tools/venv/bin/python tools/soak.py --out /tmp/soak --plot docs/images/soak.svg
"""

import argparse
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STEPS_PER_EPOCH = 50
BATCH_SIZE = 6  # two utterances of each language
RATE_HZ = 16000

# Largest growth in 1000 steps, and its unit. Memory and handles should not grow at all; the
# allocator's noise is a few MiB. Logs have a line per so many steps: they grow evenly, and by no
# more than this. A checkpoint holds the means of every epoch.
BOUNDS: dict[str, tuple[float, str]] = {
    "rss_mib": (8.0, "MiB of resident memory"),
    "handles": (0.0, "open file handles"),
    "threads": (0.0, "threads"),
    "children": (0.0, "child processes"),
    "log_kib": (1024.0, "KiB of the log"),
    "soup_kib": (1024.0, "KiB of soup.jsonl"),
    "checkpoint_kib": (64.0, "KiB of checkpoint.pth"),
}
# These grow evenly: the rate at the end may not be above that of before by more than this factor.
EVEN = ("log_kib", "soup_kib")
_MOST_RATE = 1.5


@dataclass(frozen=True)
class Sample:
    """What this process holds after a step; names as in `BOUNDS`."""

    step: int
    seconds: float
    rss_mib: float
    handles: int
    threads: int
    children: int
    log_kib: float
    soup_kib: float
    checkpoint_kib: float


def growth(samples: Sequence[Sample], name: str) -> float:
    """Growth per 1000 steps between the second and the last quarter, whose medians are compared.

    The first quarter is left out: caches fill, and libraries are loaded when they are first used.

    Raises:
        ValueError: for fewer than eight samples.
    """
    if len(samples) < 8:
        raise ValueError(f"expected at least 8 samples, found {len(samples)}; take more steps")
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    values = [statistics.median(getattr(s, name) for s in part) for part in (early, late)]
    steps = [statistics.median(s.step for s in part) for part in (early, late)]
    return 1000.0 * (values[1] - values[0]) / (steps[1] - steps[0])


def _rate(samples: Sequence[Sample], name: str) -> float:
    more = getattr(samples[-1], name) - getattr(samples[0], name)
    return 1000.0 * more / (samples[-1].step - samples[0].step)


def problems(samples: Sequence[Sample]) -> list[str]:
    """What grew by more than it may; empty: nothing.

    Raises:
        ValueError: as `growth`.
    """
    found = []
    for name, (bound, unit) in BOUNDS.items():
        value = growth(samples, name)
        if value > bound:
            found.append(
                f"{unit}: expected at most {bound:g} more per 1000 steps, found {value:.3g}"
            )
    half = len(samples) // 2
    for name in EVEN:
        first, second = _rate(samples[:half], name), _rate(samples[half:], name)
        if second > _MOST_RATE * first:
            found.append(
                f"{BOUNDS[name][1]}: expected even growth, found {first:.3g} per 1000 steps in the "
                f"first half and {second:.3g} in the second"
            )
    return found


class Sampler:
    """Takes a sample every `interval` steps.

    Args:
        directory: of the experiment.
        log: file that logging goes to.
        interval: steps.
    """

    def __init__(self, directory: Path, log: Path, interval: int) -> None:
        import psutil

        self.samples: list[Sample] = []
        self._directory, self._log, self._interval = directory, log, interval
        self._process = psutil.Process()
        self._begin = time.perf_counter()
        self._step = 0

    def step(self) -> None:
        """Call it after every step."""
        self._step += 1
        if self._step % self._interval:
            return
        process = self._process
        with process.oneshot():
            sample = Sample(
                step=self._step,
                seconds=round(time.perf_counter() - self._begin, 2),
                rss_mib=round(process.memory_info().rss / 2**20, 2),
                handles=process.num_fds(),
                threads=process.num_threads(),
                children=len(process.children(recursive=True)),
                log_kib=_kib(self._log),
                soup_kib=_kib(self._directory / "soup.jsonl"),
                checkpoint_kib=_kib(self._directory / "checkpoint.pth"),
            )
        self.samples.append(sample)
        # So that a run of hours that is ended early tells what it has seen.
        with open(self._log.with_name("samples.jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(sample)) + "\n")


def _kib(path: Path) -> float:
    return round(path.stat().st_size / 1024, 1) if path.exists() else 0.0


def write_corpus(directory: Path, n_utterances: int, seed: int) -> None:
    """A data directory of noise in three languages, two of which are translated into English."""
    import numpy as np
    import soundfile

    from espnet_objsoup.data.corpora.rows import Utterance, to_data_dir
    from espnet_objsoup.data.datadir import write

    random = np.random.default_rng(seed)
    (directory / "audio").mkdir(parents=True, exist_ok=True)
    utterances = []
    shapes = {}
    for i in range(n_utterances):
        lang = ("de", "en", "fr")[i % 3]
        samples = random.normal(0.0, 0.1, int(random.uniform(0.4, 1.2) * RATE_HZ))
        path = directory / "audio" / f"{i:04d}.flac"
        soundfile.write(path, samples.astype(np.float32), RATE_HZ)
        words = "".join(random.choice(list("abcdefghij "), size=random.integers(3, 9))).strip()
        translations = {} if lang == "en" else {"en": words[::-1].strip() or "a"}
        item = Utterance(
            f"{i:04d}", f"{lang}-s{i % 2}", str(path), lang, words or "a", translations
        )
        utterances.append(item)
        shapes[f"{item.speaker}-{item.utterance}"] = len(samples)
    write(to_data_dir(utterances), directory)
    lines = [f"{name} {shapes[name]}\n" for name in sorted(shapes)]
    (directory / "speech_shape").write_text("".join(lines), encoding="utf-8")


def configuration(workers: int) -> dict[str, Any]:
    """The model and how it is trained: weights every fourth step, a scan in every epoch."""
    decoder = {"attention_heads": 2, "linear_units": 32, "num_blocks": 1}
    encoder = {"output_size": 16, "attention_heads": 2, "cgmlp_linear_units": 32, "num_blocks": 3}
    return {
        "trainer": "objsoup",
        "trainer_conf": {
            "recipe": "bilevel",
            "order": "as",
            "weights_interval": 4,
            # Noise has hardly any conflict: layers are chosen, and measured, all the same.
            "layers": {"policy": "conflict", "threshold": 0.95, "scan_steps": 10},
        },
        "token_type": "char",
        "frontend_conf": {"fs": RATE_HZ, "n_fft": 512, "hop_length": 160, "n_mels": 20},
        "encoder_conf": {**encoder, "linear_units": 32, "input_layer": "conv1d2",
                         "cgmlp_conv_kernel": 3, "rel_pos_type": "latest"},
        "asr_decoder": "transformer",
        "asr_decoder_conf": decoder,
        "st_decoder_conf": decoder,
        "optim": "adam",
        "optim_conf": {"lr": 0.001},
        "batch_type": "sorted",
        "batch_size": BATCH_SIZE,
        "best_model_criterion": [["valid", "loss", "min"]],
        "keep_nbest_models": 2,
        "num_att_plot": 0,
        "num_workers": workers,
        "log_interval": 10,
        "use_matplotlib": False,
        "seed": 1,
    }  # fmt: skip


def prepare(out: Path, steps: int, workers: int) -> list[str]:
    """Write data, tokens and configuration; returns ESPnet's command line for `steps` steps."""
    import yaml

    from espnet_objsoup.bin.train import expand

    write_corpus(out / "train", STEPS_PER_EPOCH * BATCH_SIZE, seed=1)
    write_corpus(out / "valid", 2 * BATCH_SIZE, seed=2)
    tokens = ["<blank>", "<unk>", "<de>", "<en>", "<fr>", "<space>", *"abcdefghij", "<sos/eos>"]
    (out / "tokens.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    (out / "train.yaml").write_text(yaml.safe_dump(configuration(workers)), encoding="utf-8")
    words = ["--config", str(out / "train.yaml"), "--train_dir", str(out / "train")]
    words += ["--valid_dir", str(out / "valid"), "--output_dir", str(out / "exp")]
    words += ["--token_list", str(out / "tokens.txt")]
    words += ["--max_epoch", str(-(-steps // STEPS_PER_EPOCH)), "--resume", "false"]
    for split in ("train", "valid"):
        words += [f"--{split}_shape_file", str(out / split / "speech_shape")]
    return expand(words)


def sampled_task(after_step: Callable[[], None]) -> type:
    """ObjSoupTask whose trainer calls `after_step` after every step."""
    from espnet2.train.class_choices import ClassChoices
    from espnet2.train.trainer import Trainer

    from espnet_objsoup.tasks.objsoup import ObjSoupTask
    from espnet_objsoup.train.abs_trainer import EpochContext
    from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer

    class SampledTrainer(ObjSoupTrainer):
        @classmethod
        def end_step(cls, context: EpochContext) -> None:
            super().end_step(context)
            after_step()

    class SoakTask(ObjSoupTask):
        trainer_choices = ClassChoices(
            "trainer", classes={"objsoup": SampledTrainer}, type_check=Trainer, default="objsoup"
        )

    return SoakTask


@contextmanager
def logging_to(path: Path) -> Any:
    """ESPnet's log, and nothing else's, goes to a file."""
    root = logging.getLogger()
    handlers, level, disabled = root.handlers[:], root.level, root.manager.disable
    file = logging.FileHandler(path, mode="w", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s (%(module)s:%(lineno)d) %(message)s"))
    root.handlers[:] = [file]
    root.setLevel(logging.INFO)  # ESPnet sets up nothing where there is a handler
    logging.disable(logging.NOTSET)  # another tool in this process may have switched it off
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.disable(disabled)
        file.close()


def soak(out: Path, steps: int, interval: int, workers: int) -> list[Sample]:
    """Train; returns the samples."""
    out.mkdir(parents=True, exist_ok=True)
    log = out / "train.log"
    (out / "samples.jsonl").unlink(missing_ok=True)
    sampler = Sampler(out / "exp", log, interval)
    command = prepare(out, steps, workers)
    with logging_to(log):
        sampled_task(sampler.step).main(cmd=command)
    return sampler.samples


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; returns 1 if something grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory for everything")
    parser.add_argument("--steps", type=int, default=2000, help="rounded up to whole epochs of 50")
    parser.add_argument("--interval", type=int, default=10, help="steps between samples")
    parser.add_argument("--num_workers", type=int, default=1, help="processes that read data")
    parser.add_argument("--plot", type=Path, help="SVG to write")
    args = parser.parse_args(argv)
    samples = soak(args.out, args.steps, args.interval, args.num_workers)
    result = {
        "steps": samples[-1].step,
        "seconds": samples[-1].seconds,
        "growth_per_1000_steps": {name: round(growth(samples, name), 3) for name in BOUNDS},
        "bounds": {name: bound for name, (bound, _) in BOUNDS.items()},
        "problems": problems(samples),
        "samples": [asdict(sample) for sample in samples],
    }
    (args.out / "soak.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        from figures.soak import draw

        draw(result, args.plot)
    for name in BOUNDS:
        print(f"{name:>15}: {result['growth_per_1000_steps'][name]:+.3f} per 1000 steps")
    for problem in result["problems"]:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
