# SPDX-License-Identifier: Apache-2.0
"""Kills a short training with SIGKILL at random instants and compares what comes out in the end.

A small model is trained on noise by `trainer: objsoup`, once without interruption; then again and
again, in processes forked after everything is imported, each killed by the clock or at one of the
operations on files that saving consists of (a write by half). Training goes on after each kill, may
be killed again, and has to end with the same bits: parameters, optimiser, soup, means, averages,
links and soup.jsonl.

tools/venv/bin/python tools/kill_training.py --out /tmp/kills --instants 100
"""

import argparse
import json
import os
import random
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mortal_process import Operations, start, wait

EPOCHS = 3
STEPS_PER_EPOCH = 3
BATCH_SIZE = 6
# A training is killed so many times at most before it may end.
MOST_KILLS = 3
KINDS = ("clock", "write", "call")


@dataclass(frozen=True)
class Reference:
    """The uninterrupted training.

    Attributes:
        exp: its directory.
        seconds: it took.
        operations: on files: number of "write" (into a checkpoint) and of "call" (others).
    """

    exp: Path
    seconds: float
    operations: dict[str, int]


def configuration(workers: int) -> dict[str, Any]:
    """Dropout, masks, noise, accumulation, scans and averages: all that must be the same again."""
    import soak

    conf = soak.configuration(workers)
    layers = {**conf["trainer_conf"]["layers"], "scan_steps": 4}
    trainer_conf = {"weights_interval": 2, "checkpoint_interval_steps": 2, "layers": layers}
    return {
        **conf,
        "trainer_conf": {**conf["trainer_conf"], **trainer_conf},
        "encoder_conf": {**conf["encoder_conf"], "num_blocks": 2},
        "specaug": "specaug",
        "specaug_conf": {
            "apply_time_warp": False,
            "freq_mask_width_range": [0, 5],
            "time_mask_width_range": [0, 10],
        },
        "scheduler": "warmuplr",
        "scheduler_conf": {"warmup_steps": 5},
        "batch_size": BATCH_SIZE,
        "max_epoch": EPOCHS,
        "use_tensorboard": False,
        "log_interval": 1,
    }


def prepare(out: Path) -> None:
    """Data, tokens and configurations for 0 and 1 workers."""
    import soak
    import yaml

    soak.write_corpus(out / "train", STEPS_PER_EPOCH * BATCH_SIZE, seed=1)
    soak.write_corpus(out / "valid", BATCH_SIZE, seed=2)
    tokens = ["<blank>", "<unk>", "<de>", "<en>", "<fr>", "<space>", *"abcdefghij", "<sos/eos>"]
    (out / "tokens.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    for workers in (0, 1):
        conf = configuration(workers)
        conf["preprocessor_conf"] = {
            "noise_scp": str(out / "train" / "wav.scp"),
            "noise_apply_prob": 1.0,
            "noise_db_range": "5_15",
        }
        text = yaml.safe_dump(conf)
        (out / f"workers{workers}.yaml").write_text(text, encoding="utf-8")


def command(out: Path, exp: Path, workers: int) -> list[str]:
    """ESPnet's command line of a training in `exp`."""
    from espnet_objsoup.bin.train import expand

    words = ["--config", str(out / f"workers{workers}.yaml"), "--output_dir", str(exp)]
    words += ["--train_dir", str(out / "train"), "--valid_dir", str(out / "valid")]
    words += ["--token_list", str(out / "tokens.txt"), "--resume", "true"]
    for split in ("train", "valid"):
        words += [f"--{split}_shape_file", str(out / split / "speech_shape")]
    return expand(words)


def final_state(exp: Path) -> dict[str, Any]:
    """All that must be the same in the end; times are not."""
    import torch

    links = {p.name: os.readlink(p) for p in sorted(exp.glob("*.pth")) if p.is_symlink()}
    names = [p.name for p in sorted(exp.glob("*.pth")) if not p.is_symlink()]
    # Whether there is an earlier checkpoint, and of which step, depends on the kills.
    names = [n for n in names if not n.startswith("checkpoint.") or n == "checkpoint.pth"]
    content = {name: torch.load(exp / name, weights_only=True) for name in names}
    checkpoint = content["checkpoint.pth"]
    del checkpoint["objsoup"]
    for means in checkpoint["reporter"]["stats"].values():
        for of_phase in means.values():
            for key in [key for key in of_phase if "time" in key]:
                del of_phase[key]
    hidden = [p.name for p in exp.glob(".*")]
    return {
        "files": content,
        "links": links,
        "soup": (exp / "soup.jsonl").read_text(encoding="utf-8"),
        "left over": hidden,
    }


def differences(a: Any, b: Any, place: str = "") -> Iterator[str]:
    """Places where two states are not the same, bit for bit."""
    import torch

    if type(a) is not type(b):
        yield f"{place}: {type(a).__name__} and {type(b).__name__}"
    elif isinstance(a, dict):
        for key in sorted({*a, *b}, key=str):
            if key in a and key in b:
                yield from differences(a[key], b[key], f"{place}/{key}")
            else:
                yield f"{place}/{key}: only in one"
    elif isinstance(a, list | tuple):
        if len(a) != len(b):
            yield f"{place}: {len(a)} and {len(b)} entries"
        for i, pair in enumerate(zip(a, b, strict=False)):
            yield from differences(*pair, f"{place}[{i}]")
    elif isinstance(a, torch.Tensor):
        if a.dtype != b.dtype or not torch.equal(
            a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8)
        ):
            yield f"{place}: other numbers"
    elif a != b and not (a != a and b != b):
        yield f"{place}: {str(a)[:80]} and {str(b)[:80]}"


@contextmanager
def explained(log: Path) -> Iterator[None]:
    """Show the end of the log with an error."""
    try:
        yield
    except ChildProcessError as err:
        tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise ChildProcessError(f"{err}; the end of {log}:\n{tail}") from err


def reference(out: Path) -> Reference:
    """Train without interruption."""
    exp, log = out / "straight", out / "straight.log"
    begin = time.monotonic()
    with explained(log):
        wait(start(command(out, exp, workers=0), log))
    operations = json.loads(log.with_suffix(".operations").read_text(encoding="utf-8"))
    return Reference(exp, time.monotonic() - begin, operations)


def interrupted(
    out: Path, known: Reference, draw: random.Random, most: int, kinds: Sequence[str]
) -> list[str]:
    """One training, killed up to `most` times, by some of `KINDS`, before it may end.

    Returns:
        When it was killed, for the report.

    Raises:
        AssertionError: if the end is another one.
    """
    exp, log = out / "killed", out / "killed.log"
    shutil.rmtree(exp, ignore_errors=True)
    log.unlink(missing_ok=True)
    kills: list[str] = []
    with explained(log):
        while len(kills) < most:
            words = command(out, exp, workers=draw.randrange(2))
            kind = draw.choice(kinds)
            if kind == "clock":
                instant = round(draw.uniform(0.0, known.seconds), 3)
                killed = wait(start(words, log), instant)
            else:
                instant = draw.randint(1, known.operations[kind])
                killed = wait(start(words, log, Operations(kind, instant)))
            if not killed:
                break
            kills.append(f"{kind} {instant}: {position(exp)}")
        else:
            wait(start(command(out, exp, workers=draw.randrange(2)), log))
    found = list(differences(final_state(known.exp), final_state(exp)))
    if found:
        raise AssertionError(f"killed {'; '.join(kills)}: another result: {'; '.join(found[:10])}")
    return kills


def position(exp: Path) -> str:
    """What a kill has left."""
    from espnet_objsoup.train.checkpoints import Checkpoints

    found = Checkpoints(exp).find()
    half = sorted(path.name for path in exp.glob(".*"))
    return f"left {found or 'no checkpoint'}{' and ' + ', '.join(half) if half else ''}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; returns 1 if a training ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory for everything")
    parser.add_argument("--instants", type=int, default=100, help="kills")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument(
        "--by",
        nargs="+",
        choices=KINDS,
        default=KINDS,
        help="what kills; without the clock it happens where the seed says on every machine",
    )
    args = parser.parse_args(argv)
    import torch

    import espnet_objsoup.tasks.objsoup  # noqa: F401  before forking

    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(args.out / "straight", ignore_errors=True)
    prepare(args.out)
    known = reference(args.out)
    print(f"uninterrupted: {known.seconds:.1f} s, operations on files: {known.operations}")
    draw = random.Random(args.seed)
    kills: list[str] = []
    trainings = 0
    while len(kills) < args.instants:
        most = min(args.instants - len(kills), draw.randint(1, MOST_KILLS))
        try:
            done = interrupted(args.out, known, draw, most, args.by)
        except (AssertionError, ChildProcessError, ValueError) as err:
            print(f"error: {err}", file=sys.stderr)
            return 1
        trainings += 1
        kills += done
        for i, kill in enumerate(done, len(kills) - len(done) + 1):
            print(f"{i}/{args.instants}: {kill}", flush=True)
    result = {
        "seed": args.seed,
        "kills": len(kills),
        "trainings": trainings,
        "by": Counter(kill.split()[0] for kill in kills),
        "left": Counter(re.split(r" \(| and ", kill.partition("left ")[2])[0] for kill in kills),
        "half-written files": sum(" and ." in kill for kill in kills),
    }
    (args.out / "kills.json").write_text(json.dumps({**result, "list": kills}, indent=1) + "\n")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
