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
        Product(2.0 * b * t * positions * d, activations=1, weights=True),  # and positions
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


def decoder(size: Size, b: int, t: int, length: int) -> tuple[list[Product], float]:
    """Products of a decoder on b rows, and operations of its pass for cotangents of the encoder.

    Nothing before the first attention to the encoder depends on the encoder.
    """
    d, m, n = size.width, b * length, b * t
    own = [Product(2.0 * m * 4 * d * d)]
    own += [Product(2.0 * b * length**2 * d, activations=2, weights=False)] * 2
    query = Product(2.0 * m * d * d)
    keys_and_values = Product(2.0 * n * 2 * d * d)
    scores = Product(2.0 * b * length * t * d, activations=2, weights=False)
    rest = [scores, Product(2.0 * m * d * d), Product(2.0 * m * 2 * d * size.linear * d)]
    every = [*own, query, keys_and_values, scores, *rest] * size.decoder_blocks
    output = Product(2.0 * m * d * size.vocabulary)
    cotangents = sum(p.cotangents for p in [*every, output])
    # The first block: no self-attention, no queries; keys' cotangents only.
    cotangents -= sum(p.cotangents for p in [*own, query]) + scores.operations
    return [*every, output], cotangents


def predict(size: Size, data: Data, k: int, n_layers: int) -> dict[str, float]:
    """Part -> operations of a step that measures the top layers (0: a plain step).

    Args:
        size: of the model.
        data: of the batch.
        k: number K of objectives.
        n_layers: that are measured.
    """
    b, t = data.utterances, frames(data.seconds[1])[2]
    rows = {"asr": b, "st": b - N_UNTRANSLATED}
    blocks = block(size, b, t)
    parts = [*front(size, b, data.seconds[1]), *blocks * size.blocks]
    cotangents = 0.0
    for task, n in rows.items():
        # The prompt: <sos/eos> and one or two symbols of languages.
        found, needed = decoder(size, n, t, data.tokens + (2 if task == "asr" else 3))
        parts += found
        cotangents += needed
    ctc = Product(2.0 * rows["asr"] * t * size.width * size.vocabulary)
    parts.append(ctc)
    result = {
        "forward": sum(p.operations for p in parts),
        "backward": sum(p.backward for p in parts),
    }
    if n_layers:
        result["cotangents, heads"] = cotangents + ctc.cotangents
        in_blocks = sum(p.cotangents for p in blocks)
        result["cotangents, layers"] = len(rows) * n_layers * in_blocks
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
        "gradients of depthwise convolutions": depthwise,
        "sums S S^T": 2.0 * k * k * (parameters + channels * size.kernel),
    }


UNCOUNTED = ("gradients of depthwise convolutions",)


def counted(parts: Mapping[str, float]) -> float:
    """Operations that FlopCounterMode sees."""
    return sum(value for part, value in parts.items() if part not in UNCOUNTED)
