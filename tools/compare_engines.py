#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train the same small model with both gradient engines and compare the soup's weights.

The data are noise with random labels in three languages; what is compared is arithmetic. Double
precision, dropout on: both trainings draw the same random numbers. ESPnet's CTC computes in single
precision whatever the model's is, and training would amplify its rounding; here it is double, too.
"""

import argparse
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile
import torch
import yaml

TOKENS = ["<blank>", "<unk>", "<de>", "<en>", "<fr>", "<space>", *"abcdefghij", "<sos/eos>"]
_RATE_HZ = 16000
_DECODER = {"attention_heads": 2, "linear_units": 32, "num_blocks": 1}
CONFIG = {
    "train_dtype": "float64",
    "frontend_conf": {"fs": "16k", "n_fft": 512, "hop_length": 320, "n_mels": 20},
    "normalize": "utterance_mvn",
    "encoder_conf": {
        "output_size": 16,
        "attention_heads": 2,
        "cgmlp_linear_units": 32,
        "cgmlp_conv_kernel": 7,
        "linear_units": 32,
        "num_blocks": 3,
        "input_layer": "conv1d2",
        "rel_pos_type": "latest",
        "use_ffn": True,
        "macaron_ffn": True,
    },
    "asr_decoder": "transformer",
    "asr_decoder_conf": _DECODER,
    "st_decoder_conf": _DECODER,
    "init": "xavier_uniform",
    "ssl": "cpc",
    "optim": "adam",
    "optim_conf": {"lr": 0.002},
    "batch_bins": 12 * _RATE_HZ,
    "keep_nbest_models": 1,
    "num_att_plot": 0,
    "use_tensorboard": False,
    "use_matplotlib": False,
    "num_workers": 0,
    "log_interval": 1000,
}
SOUP = {
    "recipe": "multilevel",
    "weights_interval": 1,
    "layers": {"last_k": 2, "scan_steps": 5},
}


def get_parser() -> argparse.ArgumentParser:
    """Parser of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps, at least")
    parser.add_argument("--utterances", type=int, default=96, help="of training")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="of weights, absolute")
    parser.add_argument("--work", type=Path, help="directory to keep; default: a temporary one")
    return parser


def write_data(directory: Path, n: int) -> None:
    """A data directory, its shapes and audio: noise, random transcripts, translations of two."""
    draw = np.random.default_rng(n)
    directory.mkdir(parents=True, exist_ok=True)
    names = ("wav.scp", "text", "st_text", "utt2lang", "utt2tgt", "speech_shape")
    columns: dict[str, list[str]] = {name: [] for name in names}

    def words() -> str:
        return " ".join("".join(draw.choice(list("abcdefghij"), 3)) for _ in range(2))

    for i in range(n):
        lang = ("de", "en", "fr")[i % 3]
        samples = int(draw.integers(_RATE_HZ, 2 * _RATE_HZ))
        audio = directory / f"u{i:04d}.wav"
        soundfile.write(audio, 0.1 * draw.standard_normal(samples), _RATE_HZ)
        row = {
            "wav.scp": str(audio),
            "text": words(),
            "st_text": "<na>" if lang == "en" else words(),
            "utt2lang": lang,
            "utt2tgt": "<na>" if lang == "en" else "en",
            "speech_shape": str(samples),
        }
        for name, value in row.items():
            columns[name].append(f"u{i:04d} {value}\n")
    for name, lines in columns.items():
        (directory / name).write_text("".join(lines), encoding="utf-8")


def train(work: Path, engine: str, epochs: int, *options: str) -> dict[str, torch.Tensor]:
    """Train with one engine and other options of the training command.

    Returns:
        The soup's saved tensors and the model's.
    """
    from espnet_objsoup.bin.train import expand
    from espnet_objsoup.tasks.objsoup import ObjSoupTask

    out = work / engine
    conf = {
        **CONFIG,
        "trainer": "objsoup",
        "trainer_conf": {**SOUP, "gradient_engine": engine},
        "max_epoch": epochs,
    }
    (work / f"{engine}.yaml").write_text(yaml.safe_dump(conf), encoding="utf-8")
    command = ["--config", str(work / f"{engine}.yaml"), "--output_dir", str(out)]
    for split in ("train", "valid"):
        command += [f"--{split}_dir", str(work / "data" / split)]
    command += ["--stats_dir", str(work / "stats"), "--token_dir", str(work / "tokens")]
    command += options
    ObjSoupTask.main(cmd=expand(command))
    checkpoint = torch.load(out / "checkpoint.pth", weights_only=True)
    soup = checkpoint["optimizers"][1]["soup"]
    tensors = {
        "weights": soup["soup"]["weights"],
        "numerators": soup["soup"]["estimate"]["numerators"],
        "selected": torch.tensor(soup["selector"]["selected"]),
        "steps": torch.tensor(soup["steps"]),
    }
    return tensors | {f"model {k}": v for k, v in checkpoint["model"].items()}


def prepare(work: Path, utterances: int) -> None:
    """Data directories, their shapes, and tokens."""
    for split, n in (("train", utterances), ("valid", 6)):
        write_data(work / "data" / split, n)
        (work / "stats" / split).mkdir(parents=True, exist_ok=True)
        (work / "data" / split / "speech_shape").rename(work / "stats" / split / "speech_shape")
    (work / "tokens").mkdir(exist_ok=True)
    (work / "tokens" / "tokens.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")


def compare(work: Path, steps: int, utterances: int) -> dict[str, float]:
    """Largest differences between the two engines' trainings.

    Returns:
        `weights`, `numerators` (relative to the largest), `model`, `selected` (0 or 1), and the
        number of `steps`.
    """
    prepare(work, utterances)
    with ctc_in_double_precision():
        first = train(work, "grouped", 1)
        epochs = -(-steps // int(first["steps"]))
        # The first epoch is resumed, which has to make no difference either.
        grouped = train(work, "grouped", epochs)
        reference = train(work, "reference", epochs)
    scale = float(reference["numerators"].abs().max())
    return {
        "steps": int(reference["steps"]),
        "weights": _largest(grouped, reference, "weights"),
        "numerators": _largest(grouped, reference, "numerators") / scale,
        "model": max(_largest(grouped, reference, k) for k in grouped if k.startswith("model")),
        "selected": float(not torch.equal(grouped["selected"], reference["selected"])),
        "moved": float(reference["weights"].max() - reference["weights"].min()),
    }


def ctc_in_double_precision() -> AbstractContextManager:
    """Within it, ESPnet's CTC keeps the model's precision."""
    return mock.patch("espnet2.asr.ctc.CTC.loss_fn", _ctc_loss)


def _ctc_loss(
    ctc: torch.nn.Module,
    logits: torch.Tensor,
    targets: torch.Tensor,
    lengths: torch.Tensor,
    target_lengths: torch.Tensor,
) -> torch.Tensor:
    """ESPnet's `CTC.loss_fn` for `ctc_type: builtin` with `reduce: false`."""
    losses = ctc.ctc_loss(logits.log_softmax(2), targets, lengths, target_lengths)
    return losses / logits.size(1)


def _largest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], name: str) -> float:
    return float((a[name].double() - b[name].double()).abs().max())


def main(argv: list[str] | None = None) -> int:
    """Run the comparison; 1 if the engines differ."""
    args = get_parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        found = compare(work, args.steps, args.utterances)
    for name, value in found.items():
        print(f"{name:<12} {value:.3g}")
    same = found["weights"] <= args.tolerance and not found["selected"]
    print("the engines agree" if same else "the engines DIFFER")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
