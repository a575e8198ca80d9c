# SPDX-License-Identifier: Apache-2.0
"""Bytes and operations of a training step: measured on short batches, extended to any batch.

What autograd keeps for the backward pass and the operations of the forward pass are polynomials in
the shape of a batch (B utterances of S seconds with L tokens each):

    c + g S + B (a S + b S^2 + d L + e L^2 + f L S + h)

c and g are what the batch shares (parameters in half precision, the table of relative positions),
S^2 is attention, L S attention to the encoder. The forward pass of the model itself is run on a
few small batches, and the coefficients are solved for.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from benchmarks.step_counts import operations
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

RATE_HZ = 16000


@dataclass(frozen=True)
class Shape:
    """Of a batch: all utterances alike.

    Attributes:
        utterances: B.
        seconds: S.
        tokens: L of every label, without prompt.
    """

    utterances: float
    seconds: float
    tokens: float

    def terms(self) -> list[float]:
        """What the coefficients are multiplied with."""
        b, s, n = self.utterances, self.seconds, self.tokens
        return [1.0, s, b * s, b * s * s, b * n, b * n * n, b * n * s, b]


# Whole seconds: the strides of the convolutions then leave hardly any rounding.
SHAPES = (
    Shape(1, 2, 4), Shape(1, 4, 4), Shape(1, 6, 4), Shape(2, 2, 4), Shape(2, 4, 8),
    Shape(1, 4, 16), Shape(1, 2, 8), Shape(2, 2, 16), Shape(1, 6, 24), Shape(3, 2, 8),
)  # fmt: skip


@dataclass(frozen=True)
class Polynomial:
    """Coefficients of the terms of a shape."""

    coefficients: np.ndarray

    @classmethod
    def fit(cls, shapes: Sequence[Shape], values: Sequence[float]) -> "Polynomial":
        """Least squares on relative errors.

        Raises:
            ValueError: if the shapes do not determine the coefficients.
        """
        terms = np.array([shape.terms() for shape in shapes])
        target = np.array(values, dtype=np.float64)
        scale = np.abs(terms).max(0)
        rows = terms / scale / target[:, None]
        solution, _, rank, _ = np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)
        if rank < terms.shape[1]:
            raise ValueError(
                f"shapes: expected {terms.shape[1]} independent ones, found {rank}; vary "
                "utterances, seconds and tokens separately"
            )
        return cls(solution / scale)

    def __call__(self, shape: Shape) -> float:
        """Value for a shape."""
        return float(np.dot(self.coefficients, shape.terms()))


class GPUPolicy(TorchFunctionMode):
    """Lets operations on a CPU keep for the backward pass what they keep on a GPU.

    Under autocast CUDA computes norms and softmax in float32 (a CPU in half precision), and its
    dropout keeps a mask of one byte per number (a CPU one of the numbers' own size).
    """

    FLOAT32 = (F.layer_norm, torch.softmax, F.softmax, torch.log_softmax, F.log_softmax)
    METHODS = (Tensor.softmax, Tensor.log_softmax)

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Called for every function of torch."""
        kwargs = kwargs or {}
        if func is F.dropout:
            return _dropout(*args, **kwargs)
        if func in (*self.FLOAT32, *self.METHODS) and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return func(args[0].float(), *args[1:], **kwargs)
        return func(*args, **kwargs)


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not training or p == 0.0:
        return x
    return torch.native_dropout(x, p, True)[0]


@dataclass(frozen=True)
class Step:
    """A model's training step.

    Attributes:
        parameters: number of scalars.
        saved_bytes: what autograd keeps between forward and backward pass.
        forward_operations: of matrix products and convolutions; the backward pass takes twice as
            many.
    """

    parameters: int
    saved_bytes: Polynomial
    forward_operations: Polynomial

    def operations(self, shape: Shape) -> float:
        """Of forward and backward pass."""
        return 3.0 * self.forward_operations(shape)

    def state_bytes(self) -> int:
        """Parameters, gradients and the two averages of Adam, in float32."""
        return 16 * self.parameters


def saved_bytes(model: nn.Module, run: Callable[[], Any]) -> int:
    """Bytes of the storages that autograd keeps, each once; without parameters and buffers.

    Args:
        model: whose parameters and buffers are not counted.
        run: the forward pass; what it returns is held until the count is done.
    """
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage  # held, so that no address is used twice
        # An output kept by the node that made it would be a cycle, never to be freed.
        return tensor.detach()

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        held = run()
    total = sum(storage.nbytes() for storage in storages.values())
    del held
    return total


def make_batch(shape: Shape, rows: dict[str, int], vocabulary: int) -> dict[str, Tensor]:
    """Noise of the first language, translated into the second if there is one.

    Args:
        shape: of whole numbers.
        rows: language -> index in the model.
        vocabulary: number of tokens.
    """
    n, samples = int(shape.utterances), int(shape.seconds * RATE_HZ)
    generator = torch.Generator().manual_seed(1)
    labels = int(shape.tokens)
    text = torch.randint(vocabulary // 2, vocabulary - 1, (n, labels), generator=generator)
    batch = {
        "speech": 0.1 * torch.randn(n, samples, generator=generator),
        "speech_lengths": torch.full((n,), samples),
        "lang": torch.full((n, 1), rows["source"]),
        "tgt_lang": torch.full((n, 1), rows["target"]),
    }
    for name in ("text", "st_text"):
        batch[name], batch[f"{name}_lengths"] = text, torch.full((n,), labels)
    return batch


def measure(
    model: nn.Module,
    batches: Callable[[Shape], dict[str, Tensor]],
    half: bool,
    shapes: Sequence[Shape] = SHAPES,
) -> Step:
    """Run the forward pass on small batches and extend what is counted.

    Args:
        model: on a CPU.
        batches: a batch of a shape, as `model.forward` takes it.
        half: whether training uses automatic mixed precision.
        shapes: to run.
    """
    model.train()
    saved, counted = [], []
    for shape in shapes:
        batch = batches(shape)

        def forward(batch: dict[str, Tensor] = batch) -> Any:
            autocast = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
            with GPUPolicy(), autocast:
                return model(**batch)

        counted.append(operations(lambda: saved.append(saved_bytes(model, forward))))
    return Step(
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        saved_bytes=Polynomial.fit(shapes, saved),
        forward_operations=Polynomial.fit(shapes, counted),
    )
