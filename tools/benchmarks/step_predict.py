# SPDX-License-Identifier: Apache-2.0
"""Operations of a step by arithmetic, part by part, to hold the counted and the timed against.

A multiplication and an addition are two operations; only matrix products and convolutions count.
Letters: B utterances, T encoder frames (padded), L tokens and prompt, D features, K objectives,
U units of the convolutional branch, k width of a kernel, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from step_setup import N_UNTRANSLATED, Data, Size, frames


@dataclass(frozen=True)
class Product:
    """A product of matrices (or a convolution) of the forward pass.

    Attributes:
        operations: of the forward pass.
        activations: how many of its operands need a cotangent on the way to the encoder.
        weights: whether one of its operands is a parameter.
    """

    operations: float
    activations: int = 1
    weights: bool = True

    @property
    def backward(self) -> float:
        """Operations of an ordinary backward pass."""
        return self.operations * (self.activations + int(self.weights))

    @property
    def cotangents(self) -> float:
        """Operations of a pass for cotangents of activations only."""
        return self.operations * self.activations


def block(size: Size, b: int, t: int) -> list[Product]:
    """One E-Branchformer block."""
    n, d, u = b * t, size.width, size.cgmlp * size.width
    linear = [2 * d * size.linear * d] * 2 + [4 * d * d, d * u, u // 2 * d, 2 * d * d]
    depthwise = [u // 2 * size.kernel, 2 * d * size.kernel]
    positions = 2 * t - 1
    return [
        *(Product(2.0 * n * x) for x in linear + depthwise),
        Product(2.0 * positions * d * d, activations=0),  # linear_pos, once for all utterances
        Product(2.0 * b * t * t * d, activations=2, weights=False),  # queries and keys
        # Queries and positions; a measuring pass keeps the cotangents of positions by utterance.
        Product(2.0 * b * t * positions * d, activations=2, weights=False),
        Product(2.0 * b * t * t * d, activations=2, weights=False),  # attention and values
    ]


def front(size: Size, b: int, seconds: float) -> list[Product]:
    """Mel filters and the two convolutions of `conv2d` with their linear layer."""
    d = size.width
    n0, n1, n2 = frames(seconds)
    f1 = (size.mels - 1) // 2
    f2 = (f1 - 1) // 2
    return [
        Product(2.0 * b * n0 * 257 * size.mels, activations=0, weights=False),
        Product(2.0 * b * n1 * f1 * 9 * d, activations=0),
        Product(2.0 * b * n2 * f2 * 9 * d * d),
        Product(2.0 * b * n2 * f2 * d * d),
    ]


def decoder(size: Size, b: int, t: int, length: int) -> list[Product]:
    """Products of a decoder on b rows."""
    d, m, n = size.width, b * length, b * t
    own = [Product(2.0 * m * 4 * d * d)]
    own += [Product(2.0 * b * length**2 * d, activations=2, weights=False)] * 2
    query = Product(2.0 * m * d * d)
    keys_and_values = Product(2.0 * n * 2 * d * d)
    scores = Product(2.0 * b * length * t * d, activations=2, weights=False)
    rest = [scores, Product(2.0 * m * d * d), Product(2.0 * m * 2 * d * size.linear * d)]
    every = [*own, query, keys_and_values, scores, *rest] * size.decoder_blocks
    return [*every, Product(2.0 * m * d * size.vocabulary)]


def predict(size: Size, data: Data, k: int, n_layers: int) -> dict[str, float]:
    """Part -> operations of a step that measures the top layers (0: a plain step).

    Measured layers and heads leave the backward pass: the measuring passes do their part.

    Args:
        size: of the model.
        data: of the batch.
        k: number K of objectives.
        n_layers: that are measured.
    """
    b, t = data.utterances, frames(data.seconds[1])[2]
    rows = {"asr": b, "st": b - N_UNTRANSLATED}
    blocks = block(size, b, t)
    below = [*front(size, b, data.seconds[1]), *blocks * (size.blocks - n_layers)]
    heads = [Product(2.0 * rows["asr"] * t * size.width * size.vocabulary)]  # CTC
    for task, n in rows.items():
        # The prompt: <sos/eos> and one or two symbols of languages.
        heads += decoder(size, n, t, data.tokens + (2 if task == "asr" else 3))
    result = {
        "forward": sum(p.operations for p in [*below, *heads, *blocks * n_layers]),
        "backward": sum(p.backward for p in below),
        "backward of heads": sum(p.backward for p in heads),
    }
    if n_layers:
        in_blocks = sum(p.cotangents for p in blocks)
        result["cotangents of layers"] = len(rows) * n_layers * in_blocks
        for part, operations in measuring(size, rows, t, k).items():
            result[part] = n_layers * operations
    return result


def matrices(size: Size) -> list[tuple[int, int]]:
    """(inputs, outputs) of the measured matrices of a block."""
    d, f, u = size.width, size.linear * size.width, size.cgmlp * size.width
    return [(d, f), (f, d)] * 2 + [(d, d)] * 4 + [(d, u), (u // 2, d), (2 * d, d)]


def measuring(size: Size, rows: Mapping[str, int], t: int, k: int) -> dict[str, float]:
    """Operations of forming and multiplying the gradients of one block, on a CPU."""
    counts: Sequence[int] = list(rows.values())
    parameters = sum(inputs * outputs for inputs, outputs in matrices(size))
    weights = 2.0 * sum(counts) * t * parameters
    # The blocks of an utterance, one per task that it has, times each other.
    both = min(counts)
    own = 2.0 * (4 * both + max(counts) - both) * parameters
    channels = size.cgmlp * size.width // 2 + 2 * size.width
    # Not in the count by torch: written as products of numbers.
    depthwise = 2.0 * sum(counts) * t * channels * size.kernel
    return {
        "gradients of matrices": weights,
        "own products": own,
        "gradient of positions": 2.0 * (2 * t - 1) * size.width**2,
        "gradients of depthwise convolutions": depthwise,
        "sums S S^T": 2.0 * k * k * (parameters + channels * size.kernel),
    }


UNCOUNTED = ("gradients of depthwise convolutions",)


def counted(parts: Mapping[str, float]) -> float:
    """Operations that FlopCounterMode sees."""
    return sum(value for part, value in parts.items() if part not in UNCOUNTED)
