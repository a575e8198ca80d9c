# SPDX-License-Identifier: Apache-2.0
"""Experiments as training leaves them, of any size, without training."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

FIVE = ("asr/de", "asr/en", "asr/fr", "st/de-en", "st/fr-en")
LANGS = "en fr de es ca it ru zh pt fa et mn nl tr ar sv lv sl ta ja id".split()
FORTY_ONE = (*(f"asr/{lang}" for lang in LANGS), *(f"st/{lang}-en" for lang in LANGS[1:]))


def make_run(
    directory: Path,
    objectives: Sequence[str] = FIVE,
    trainer_conf: dict[str, Any] | None = None,
    epochs: int = 4,
    steps: int = 50,
    interval: int = 2,
    layers: int = 6,
    levels: int = 1,
    seed: int = 1,
    scores: bool = True,
    statistics: bool = True,
) -> Path:
    """Write config.yaml, soup.jsonl, tensorboard/ and scores.json.

    Args:
        directory: of the experiment.
        objectives: names.
        trainer_conf: of trainer objsoup; recipe flat with policy conflict unless it is given.
        epochs: number.
        steps: per epoch.
        interval: steps between refreshes.
        layers: number of them.
        levels: number of them in soup.jsonl.
        seed: of the numbers.
        scores: write scores.json.
        statistics: write tensorboard/.
    """
    directory.mkdir(parents=True, exist_ok=True)
    conf = {
        "max_epoch": epochs,
        "accum_grad": 1,
        "objectives": list(objectives),
        "trainer": "objsoup",
        "trainer_conf": trainer_conf or {"recipe": "flat", "layers": {"policy": "conflict"}},
        "seed": seed,
        "encoder_conf": {"num_blocks": layers},
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(conf, sort_keys=False))
    rng = np.random.default_rng(seed)
    with open(directory / "soup.jsonl", "w") as file:
        for epoch in range(1, epochs + 1):
            for step in range((epoch - 1) * steps, epoch * steps, interval):
                line = refresh(rng, objectives, layers, step + 1, epoch)
                for level in range(2, levels + 1):
                    line[f"soup_level_coefficient/{level}"] = min(0.1 + 0.4 * (epoch - 1), 1.5)
                    line[f"soup_conflict/{level}"] = line["soup_conflict/1"] / level
                file.write(json.dumps(line) + "\n")
            file.write(json.dumps(scan(rng, objectives, layers, epoch * steps, epoch)) + "\n")
    if statistics:
        write_statistics(directory / "tensorboard", objectives, epochs, steps, rng)
    if scores:
        (directory / "scores.json").write_text(json.dumps({"test": _scores(rng, objectives)}))
    return directory


def refresh(
    rng: np.random.Generator, objectives: Sequence[str], layers: int, step: int, epoch: int
) -> dict[str, Any]:
    """A line of kind refresh."""
    weights = rng.dirichlet(np.full(len(objectives), 5.0))
    norms = np.exp(rng.normal(-1, 0.3, len(objectives)) - np.arange(len(objectives)) / 8)
    line: dict[str, Any] = {"kind": "refresh", "step": step, "epoch": epoch}
    line["losses"] = {name: 6 / (1 + step / 80) + rng.random() for name in objectives}
    line["layers"] = [layer_name(layers - 1)]
    for name, weight, norm in zip(objectives, weights, norms, strict=True):
        line[f"soup_weight/{name}"] = line[f"soup_coefficient/{name}"] = round(float(weight), 6)
        line[f"soup_grad_norm/{name}"] = round(float(norm), 6)
    line["soup_conflict/all"] = line["soup_conflict/1"] = round(float(rng.beta(4, 6)), 6)
    line["soup_level_coefficient/1"] = 1.0
    for i in range(layers):
        line[f"soup_selected/{layer_name(i)}"] = float(i == layers - 1)
    return line


def scan(
    rng: np.random.Generator, objectives: Sequence[str], layers: int, step: int, epoch: int
) -> dict[str, Any]:
    """A line of kind scan; the first pair has too little data in the first layer."""
    k = len(objectives)
    task = np.array([name.startswith("st") for name in objectives])
    same = np.where(task[:, None] == task[None, :], 0.45, -0.25)
    noise = rng.normal(0, 0.25, (layers, k, k))
    cosines = np.clip(same + (noise + noise.transpose(0, 2, 1)) / 2, -1, 1)
    cosines[:, range(k), range(k)] = 1.0
    counted = np.broadcast_to(~np.eye(k, dtype=bool), cosines.shape).copy()
    if k > 2:
        counted[0, 0, 1] = counted[0, 1, 0] = False
    scores = np.where(counted, cosines, 0).sum((1, 2)) / counted.sum((1, 2))
    order = np.argsort(scores)
    return {
        "kind": "scan", "step": step, "epoch": epoch, "objectives": list(objectives),
        "layers": [layer_name(i) for i in range(layers)],
        "scores": scores.round(6).tolist(), "errors": [0.05] * layers,
        "worst": cosines.min((1, 2)).round(6).tolist(),
        "selected": [layer_name(i) for i in sorted(order[:2].tolist())],
        "cosines": cosines.round(6).tolist(), "counted": counted.astype(int).tolist(),
    }  # fmt: skip


def layer_name(i: int) -> str:
    """As layers are called in soup.jsonl."""
    return f"encoder.encoders.{i}"


def write_statistics(
    directory: Path, objectives: Sequence[str], epochs: int, steps: int, rng: np.random.Generator
) -> None:
    """What ESPnet's reporter writes: means of intervals, then of the epoch."""
    losses = ["loss_" + name.replace("/", "_").replace("-", "_") for name in objectives]
    train, valid = (EventFileWriter(str(directory / name)) for name in ("train", "valid"))
    for epoch in range(1, epochs + 1):
        every = max(steps // 5, 1)
        for step in range((epoch - 1) * steps + every, epoch * steps + 1, every):
            add_values(train, step, {name: 6 / (1 + step / 80) + rng.random() for name in losses})
            add_values(train, step, _times(rng))
        end = epoch * steps
        add_values(train, end, {"iter_epoch": epoch})
        means = {name: 7 / (1 + end / 80) + rng.random() for name in losses}
        add_values(train, end, means | _times(rng))
        add_values(valid, end, means | {"loss": sum(means.values())})
    train.close()
    valid.close()


def _times(rng: np.random.Generator) -> dict[str, float]:
    forward, backward = 0.09 + 0.02 * rng.random(), 0.2 + 0.02 * rng.random()
    return {
        "train_time": forward + backward + 0.015, "forward_time": forward,
        "backward_time": backward, "optim_step_time": 0.01, "iter_time": 0.005,
    }  # fmt: skip


def add_values(writer: EventFileWriter, step: int, values: dict[str, float]) -> None:
    """Add scalars as torch's SummaryWriter does."""
    for tag, value in values.items():
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        writer.add_event(Event(wall_time=1.7e9 + step, step=step, summary=summary))


def _scores(rng: np.random.Generator, objectives: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for task, measure in (("asr", "wer"), ("st", "bleu")):
        names = [name for name in objectives if name.startswith(f"{task}/")]
        for name in names:
            found[name] = {measure: 5 + 40 * float(rng.random()), "cer": 4.0}
            if task == "asr":
                found[name]["measure"] = "cer" if name in ("asr/zh", "asr/ja") else "wer"
        if names:
            found[f"{task}/mean"] = {measure: float(np.mean([found[n][measure] for n in names]))}
    return found
