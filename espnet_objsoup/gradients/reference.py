# SPDX-License-Identifier: Apache-2.0
"""The Gramian by plain autograd, utterance by utterance: slow, and the oracle of faster engines."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from espnet_objsoup.gradients.statistic import GramianStatistic, common_counts


def reference_statistic(
    losses: Mapping[str, Tensor],
    index: Mapping[str, Tensor],
    layers: Sequence[Sequence[nn.Parameter]],
    n_objectives: int,
    scale: float = 1.0,
    unbiased: bool = True,
) -> GramianStatistic:
    """Sums of one micro-batch, from one `torch.autograd.grad` per utterance and task.

    Args:
        losses: task -> (B,) loss of each utterance; their graph is kept.
        index: task -> (B,) objective of each utterance, -1 for none.
        layers: measured parameters by layer.
        n_objectives: K.
        scale: factor on the losses during the backward pass, against underflow in half precision;
            divided out again in at least single precision.
        unbiased: leave out pairs of an utterance with itself.
    """
    parameters = [parameter for layer in layers for parameter in layer]
    sums = [[None] * n_objectives for _ in layers]
    own = torch.zeros(len(layers), n_objectives, n_objectives, dtype=torch.float64)
    for b in range(len(next(iter(losses.values())))):
        rows = {
            int(index[task][b]): _gradients(losses[task][b] * scale, parameters, layers, scale)
            for task in losses
            if index[task][b] >= 0
        }
        for k, of_k in rows.items():
            for n, gradient in enumerate(of_k):
                sums[n][k] = gradient if sums[n][k] is None else sums[n][k] + gradient
                for other, of_other in rows.items():
                    own[n, k, other] += _dot(gradient, of_other[n])
    grams = torch.zeros_like(own)
    for n, of_layer in enumerate(sums):
        present = [k for k, total in enumerate(of_layer) if total is not None]
        for k in present:
            for other in present:
                grams[n, k, other] = _dot(of_layer[k], of_layer[other])
    return GramianStatistic.from_sums(grams, own, common_counts(index, n_objectives), unbiased)


def _gradients(
    loss: Tensor,
    parameters: Sequence[nn.Parameter],
    layers: Sequence[Sequence[nn.Parameter]],
    scale: float,
) -> list[Tensor]:
    """Gradient of one loss, flattened by layer; zero for parameters it does not depend on."""
    gradients = iter(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))
    flat = []
    for layer in layers:
        parts = [
            torch.zeros_like(parameter) if gradient is None else gradient
            for parameter, gradient in zip(layer, gradients, strict=False)
        ]
        whole = torch.cat([part.reshape(-1) for part in parts])
        flat.append(whole.to(torch.promote_types(whole.dtype, torch.float32)) / scale)
    return flat


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a, b))
