# SPDX-License-Identifier: Apache-2.0
"""Gradients of single modules, utterance by utterance, from their inputs and cotangents.

A rule maps (module, input, cotangent of the output) to blocks, one for each of the module's own
parameters that need a gradient, in its order, each with the numbers of the parameter in the
parameter's order. Both tensors have the utterances of the batch as their first axis: B utterances,
T frames, I and O features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from espnet2.legacy.nets.pytorch_backend.transformer.attention import (
    LegacyRelPositionMultiHeadedAttention,
    RelPositionMultiHeadedAttention,
)
from espnet2.legacy.nets.pytorch_backend.transformer.layer_norm import LayerNorm as ESPnetLayerNorm
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Factors:
    """Gradient of a matrix as a sum of outer products: for utterance b it is `g[b].T @ x[b]`.

    Attributes:
        x: (B, T, I) inputs.
        g: (B, T, O) cotangents.
    """

    x: Tensor
    g: Tensor


@dataclass(frozen=True)
class Rows:
    """Gradient of a small parameter, written out: `values[b]` for utterance b.

    Attributes:
        values: (B, P).
    """

    values: Tensor


Block = Factors | Rows
Rule = Callable[[nn.Module, Tensor, Tensor], list[Block]]


def _affine(module: nn.Module, weight: Block, g: Tensor) -> list[Block]:
    """Blocks of the weight and, if there is one, of a bias added to outputs g (B, T, O)."""
    blocks = [weight] if module.weight.requires_grad else []
    if module.bias is not None and module.bias.requires_grad:
        blocks.append(Rows(g.sum(1)))
    return blocks


def linear(module: nn.Linear, x: Tensor, g: Tensor) -> list[Block]:
    """`Linear` on (B, ..., I)."""
    x = x.reshape(x.size(0), -1, x.size(-1))
    g = g.reshape(g.size(0), -1, g.size(-1))
    return _affine(module, Factors(x, g), g)


def convolution_1d(module: nn.Conv1d, x: Tensor, g: Tensor) -> list[Block]:
    """`Conv1d` on (B, I, T), dense or depthwise, any stride and dilation."""
    x = _pad(module, x)
    g_frames = g.transpose(1, 2)
    if module.groups == 1:
        if module.kernel_size == (1,) and module.stride == (1,):
            return _affine(module, Factors(x.transpose(1, 2), g_frames), g_frames)
        frames = F.unfold(
            x.unsqueeze(2),
            (1, module.kernel_size[0]),
            dilation=(1, module.dilation[0]),
            stride=(1, module.stride[0]),
        )
        return _affine(module, Factors(frames.transpose(1, 2), g_frames), g_frames)
    return _affine(module, Rows(_depthwise(module, x, g)), g_frames)


def _depthwise(module: nn.Conv1d, x: Tensor, g: Tensor) -> Tensor:
    """(B, O * k) gradients of a grouped convolution with one input channel per group.

    The correlation of x and g is itself a convolution with one group per utterance and channel; on
    a CPU two to five times faster than Fourier transforms, ten times faster than products.
    """
    batch, out_channels, n_frames = g.shape
    x = x.repeat_interleave(out_channels // x.size(1), dim=1).to(g.dtype)
    correlation = F.conv1d(
        x.reshape(1, batch * out_channels, -1),
        g.reshape(batch * out_channels, 1, n_frames),
        stride=module.dilation,
        dilation=module.stride,
        groups=batch * out_channels,
    )
    # A stride may leave inputs over at the end, which no output has seen.
    return correlation[0, :, : module.kernel_size[0]].reshape(batch, -1)


def convolution_2d(module: nn.Conv2d, x: Tensor, g: Tensor) -> list[Block]:
    """Dense `Conv2d` on (B, I, H, W)."""
    patches = F.unfold(
        _pad(module, x), module.kernel_size, dilation=module.dilation, stride=module.stride
    )
    g = g.flatten(2).transpose(1, 2)
    return _affine(module, Factors(patches.transpose(1, 2), g), g)


def _pad(module: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    return F.pad(x, module._reversed_padding_repeated_twice)


def layer_norm(module: nn.LayerNorm, x: Tensor, g: Tensor) -> list[Block]:
    """`LayerNorm` over the last axis, or ESPnet's over another one."""
    dim = getattr(module, "dim", -1)
    if dim != -1:
        x, g = x.transpose(dim, -1), g.transpose(dim, -1)
    normalised = F.layer_norm(x, module.normalized_shape, None, None, module.eps)
    g = g.reshape(g.size(0), -1, g.size(-1))
    return _affine(module, Rows((g * normalised.reshape(g.shape)).sum(1)), g)


def batch_norm(module: nn.BatchNorm1d, x: Tensor, g: Tensor) -> list[Block]:
    """`BatchNorm1d` on (B, C, T) or (B, C); its parameters multiply what is normalised already."""
    if x.dim() == 2:
        x, g = x.unsqueeze(2), g.unsqueeze(2)
    if module.training or not module.track_running_stats:
        mean, variance = x.mean((0, 2)), x.var((0, 2), unbiased=False)
    else:
        mean, variance = module.running_mean, module.running_var
    normalised = (x - mean[:, None]) * torch.rsqrt(variance + module.eps)[:, None]
    return _affine(module, Rows((g * normalised).sum(2)), g.transpose(1, 2))


def embedding(module: nn.Embedding, x: Tensor, g: Tensor) -> list[Block]:
    """`Embedding` of (B, ...) indices."""
    if not module.weight.requires_grad:
        return []
    x, g = x.reshape(x.size(0), -1), g.reshape(g.size(0), -1, g.size(-1))
    one_hot = F.one_hot(x, module.num_embeddings).to(g.dtype)
    if module.padding_idx is not None:
        one_hot = one_hot * (x != module.padding_idx).unsqueeze(-1)
    return [Factors(g, one_hot)]  # weight is (V, D)


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Conv1d: convolution_1d,
    nn.Conv2d: convolution_2d,
    nn.LayerNorm: layer_norm,
    ESPnetLayerNorm: layer_norm,
    nn.BatchNorm1d: batch_norm,
    nn.Embedding: embedding,
}

# Parameters that a module adds to a tensor by broadcasting, and the shape (without the first axis)
# in which a copy per utterance can stand in for them.
_BROADCAST: dict[type[nn.Module], dict[str, Callable[[Tensor], Sequence[int]]]] = {
    attention: {
        name: lambda parameter: (1, *parameter.shape) for name in ("pos_bias_u", "pos_bias_v")
    }
    for attention in (RelPositionMultiHeadedAttention, LegacyRelPositionMultiHeadedAttention)
}


# Modules that compute something once for all utterances of a batch: the child that does it, and the
# position of the argument that it does it with.
_ONCE: dict[type[nn.Module], tuple[str, int]] = {
    attention: ("linear_pos", 3)
    for attention in (RelPositionMultiHeadedAttention, LegacyRelPositionMultiHeadedAttention)
}


def register_rule(module_type: type[nn.Module], rule: Rule) -> None:
    """Add or replace the rule of a module type (not of its subclasses).

    Args:
        module_type: of modules with one input and one output, that use each of their own
            parameters once per call.
        rule: maps (module, input, cotangent of the output) to blocks, see the head of this file.

    Raises:
        TypeError: if the type is no subclass of `torch.nn.Module`, or the rule cannot be called.
    """
    if not (isinstance(module_type, type) and issubclass(module_type, nn.Module)):
        raise TypeError(
            f"register_rule: expected a subclass of torch.nn.Module, found {module_type!r}"
        )
    if not callable(rule):
        raise TypeError(f"register_rule: expected a function as the rule, found {rule!r}")
    _RULES[module_type] = rule


def rule_of(module: nn.Module) -> Rule | None:
    """The rule of a module, None if there is none."""
    rule = _RULES.get(type(module))
    if rule in (convolution_1d, convolution_2d) and not _is_plain_convolution(module):
        return None
    if rule is layer_norm and len(getattr(module, "normalized_shape", (1,))) != 1:
        return None
    if rule is embedding and (module.scale_grad_by_freq or module.sparse):
        return None  # gradients that depend on the other utterances, or that are no matrices
    return rule


def _is_plain_convolution(module: nn.Conv1d | nn.Conv2d) -> bool:
    depthwise = isinstance(module, nn.Conv1d) and module.groups == module.in_channels
    return module.padding_mode == "zeros" and (module.groups == 1 or depthwise)


def broadcast_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Parameter name -> shape per utterance, of parameters held directly and added to a tensor."""
    shapes = _BROADCAST.get(type(module), {})
    return {name: tuple(shape(getattr(module, name))) for name, shape in shapes.items()}


def once_for_all(module: nn.Module) -> tuple[str, int] | None:
    """Name of the child that works once for all utterances, and position of its argument."""
    return _ONCE.get(type(module))


def mixes_utterances(module: nn.Module) -> bool:
    """Whether an utterance's output depends on the others of its batch."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm)
