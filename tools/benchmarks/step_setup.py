# SPDX-License-Identifier: Apache-2.0
"""The model and the batch of the benchmark of a training step."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from espnet_objsoup.tasks.objsoup import ObjSoupTask

RATE_HZ = 16000
TARGET = "en"
# Utterances of the one language that is not translated; all others have both labels.
N_UNTRANSLATED = 8


@dataclass(frozen=True)
class Size:
    """Proportions of a model; those of ESPnet's E-Branchformer recipes.

    Attributes:
        blocks, width: of the encoder (N blocks of D features).
        heads: of attention, in encoder and decoders.
        cgmlp: units of the convolutional branch, in widths.
        decoder_blocks: of each of the two decoders.
        vocabulary: tokens.
    """

    blocks: int
    width: int
    heads: int = 4
    cgmlp: int = 4
    linear: int = 4
    kernel: int = 31
    decoder_blocks: int = 3
    vocabulary: int = 500
    mels: int = 80

    @property
    def top_third(self) -> int:
        """Layers that make up the top third."""
        return max(1, self.blocks // 3)


SIZES = {
    "tiny": Size(3, 32, cgmlp=4, kernel=7, decoder_blocks=1, vocabulary=100, mels=40),
    "small": Size(6, 144),
    "base": Size(12, 256),
    "large": Size(12, 512, heads=8, cgmlp=6, vocabulary=5000),
}


@dataclass(frozen=True)
class Data:
    """What a batch consists of.

    Attributes:
        utterances: B, at least 2 per objective.
        seconds: shortest and longest utterance; lengths are spread evenly.
        tokens: L, of the longest labels.
    """

    utterances: int = 48
    seconds: tuple[float, float] = (1.5, 3.5)
    tokens: int = 20


def languages_of(n_objectives: int) -> list[str]:
    """Codes of the languages that give K supervised objectives, `en` first.

    Raises:
        ValueError: if K is even: recognition of n languages and translation of n - 1.
    """
    if n_objectives % 2 == 0:
        raise ValueError(f"objectives: expected an odd number, found {n_objectives}")
    n = n_objectives // 2
    codes = (a + b for a in "abcd" for b in "fghjklmnopqrstuvwxyz")
    return [TARGET, *(next(codes) for _ in range(n))]


def objectives_of(n_objectives: int) -> list[str]:
    """Recognition of every language, translation of all but English."""
    codes = languages_of(n_objectives)
    return [f"asr/{x}" for x in codes] + [f"st/{x}-{TARGET}" for x in codes[1:]]


def configuration(size: Size, ssl: str = "none") -> dict[str, Any]:
    """A training configuration without dropout, which would cost all arms the same."""
    encoder = {
        "output_size": size.width,
        "attention_heads": size.heads,
        "attention_layer_type": "rel_selfattn",
        "pos_enc_layer_type": "rel_pos",
        "rel_pos_type": "latest",
        "cgmlp_linear_units": size.cgmlp * size.width,
        "cgmlp_conv_kernel": size.kernel,
        "use_linear_after_conv": False,
        "gate_activation": "identity",
        "num_blocks": size.blocks,
        "dropout_rate": 0.0,
        "positional_dropout_rate": 0.0,
        "attention_dropout_rate": 0.0,
        "input_layer": "conv2d",
        "layer_drop_rate": 0.0,
        "linear_units": size.linear * size.width,
        "positionwise_layer_type": "linear",
        "use_ffn": True,
        "macaron_ffn": True,
        "merge_conv_kernel": size.kernel,
    }
    decoder = {
        "attention_heads": size.heads,
        "linear_units": size.linear * size.width,
        "num_blocks": size.decoder_blocks,
        "dropout_rate": 0.0,
        "positional_dropout_rate": 0.0,
        "self_attention_dropout_rate": 0.0,
        "src_attention_dropout_rate": 0.0,
    }
    frontend = {"fs": "16k", "n_fft": 512, "win_length": 400, "hop_length": 160}
    return {
        "frontend": "default",
        "frontend_conf": {**frontend, "n_mels": size.mels},
        "specaug": None,
        "normalize": "utterance_mvn",
        "encoder": "e_branchformer",
        "encoder_conf": encoder,
        "asr_decoder": "transformer",
        "asr_decoder_conf": decoder,
        "st_decoder": "transformer",
        "st_decoder_conf": decoder,
        "model_conf": {"asr_ctc_weight": 0.3, "label_smoothing": 0.1},
        "ssl": ssl,
        "optim": "adam",
        "optim_conf": {"lr": 1e-4},
        "grad_clip": 5,
        "num_att_plot": 0,
    }


def task_arguments(
    directory: Path, size: Size, n_objectives: int, ssl: str = "none"
) -> argparse.Namespace:
    """Arguments of ObjSoupTask, as `espnet_objsoup.bin.train` would parse them."""
    conf = configuration(size, ssl)
    (directory / "train.yaml").write_text(json.dumps(conf), encoding="utf-8")
    symbols = ["<blank>", "<unk>", *(f"<{x}>" for x in languages_of(n_objectives))]
    rest = (f"t{i}" for i in range(size.vocabulary - len(symbols) - 1))
    tokens = "\n".join([*symbols, *rest, "<sos/eos>"]) + "\n"
    (directory / "tokens.txt").write_text(tokens, encoding="utf-8")
    objectives = [*objectives_of(n_objectives), *(["ssl"] if ssl != "none" else [])]
    return ObjSoupTask.get_parser().parse_args(
        ["--config", f"{directory}/train.yaml", "--token_list", f"{directory}/tokens.txt",
         "--output_dir", str(directory), "--objectives", *objectives]
    )  # fmt: skip


def make_batch(
    n_objectives: int, data: Data, vocabulary: int, seed: int = 1
) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Noise; K changes nothing but the languages' indices.

    Raises:
        ValueError: if an objective would have fewer than two utterances.
    """
    codes = languages_of(n_objectives)
    alphabetical = sorted(codes)
    n_translated = data.utterances - N_UNTRANSLATED
    others = codes[1:]
    if n_translated < 2 * len(others):
        raise ValueError(
            f"--utterances: expected at least {2 * len(others) + N_UNTRANSLATED} for K = "
            f"{n_objectives}, found {data.utterances}"
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(data.utterances, generator=generator)
    spoken = [TARGET] * N_UNTRANSLATED + [others[i % len(others)] for i in range(n_translated)]
    lang = torch.tensor([alphabetical.index(spoken[i]) for i in order.tolist()])[:, None]
    target = alphabetical.index(TARGET)
    translated = lang[:, 0] != target
    shortest, longest = (int(RATE_HZ * s) for s in data.seconds)
    samples = torch.linspace(longest, shortest, data.utterances).long()
    share = samples / longest
    lengths = (data.tokens * share).long().clamp(min=1)
    speech = torch.randn(data.utterances, longest, generator=generator)
    speech *= torch.arange(longest) < samples[:, None]
    batch = {"speech": speech, "speech_lengths": samples, "lang": lang}
    batch["tgt_lang"] = torch.where(translated, target, -1)[:, None]
    first = vocabulary // 2  # behind the symbols of languages
    for name, has_label in (("text", torch.ones_like(translated)), ("st_text", translated)):
        ids = torch.randint(first, vocabulary - 1, (len(lang), data.tokens), generator=generator)
        own = torch.where(has_label, lengths, 0)
        batch[f"{name}_lengths"] = own
        batch[name] = torch.where(torch.arange(data.tokens) < own[:, None], ids, -1)
    return [f"u{i}" for i in range(data.utterances)], batch


def frames(seconds: float) -> Sequence[int]:
    """Front-end frames, then frames after each of the two strides of `conv2d`."""
    n = int(RATE_HZ * seconds) // 160 + 1
    return n, (n - 1) // 2, ((n - 1) // 2 - 1) // 2
