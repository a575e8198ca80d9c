# SPDX-License-Identifier: Apache-2.0
"""Operations and memory of a step, counted rather than timed."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


def _backward_of_convolution(
    grad_out: Sequence[int],
    x: Sequence[int],
    w: Sequence[int],
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    output_mask: Sequence[bool],
    out_shape: Any = None,
    **_: Any,
) -> int:
    """Each gradient of a convolution takes as many operations as the convolution.

    Torch's own formula ignores groups: for the weight of a depthwise convolution of C channels it
    counts C times too many, more than all other operations of an E-Branchformer together.
    """
    forward = conv_flop_count(list(x), list(w), list(grad_out), transposed=transposed)
    return forward * (int(output_mask[0]) + int(output_mask[1]))


def operations(step: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products, attention and convolutions in a step."""
    mapping = {torch.ops.aten.convolution_backward: _backward_of_convolution}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        step()
    return counter.get_total_flops()


def peak_bytes(step: Callable[[], Any], device: str) -> int:
    """Most bytes of tensors that a step holds beyond what was held before it.

    On a CPU the profiler sees every allocation and release of torch's allocator with its size; the
    largest running sum is exact, repeatable, and knows nothing of other processes or of pages that
    the allocator keeps. Scratch memory inside of libraries (MKL, oneDNN) is not in it.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    changes = [
        (event.start_ns(), event.nbytes())
        for event in profile.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    peak = held = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        held += change
        peak = max(peak, held)
    return peak
