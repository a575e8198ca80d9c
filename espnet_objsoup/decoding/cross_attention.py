# SPDX-License-Identifier: Apache-2.0
"""Cross attention of a beam search without repeated work.

ESPnet's decoders project the encoder output to keys and values in every layer, at every step and
for every hypothesis, although it never changes. Here that is done once per search, and the
hypotheses of an utterance attend together, as the queries of one sequence. The result is the same
up to rounding.

Shapes: B utterances, H hypotheses of an utterance, N = B * H, L tokens, T frames, D features.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from espnet2.legacy.nets.pytorch_backend.transformer.attention import MultiHeadedAttention
from torch import Tensor, nn


@contextmanager
def shared_memory(decoder: nn.Module, h: Tensor) -> Iterator[None]:
    """Let the cross attention of a decoder see `h` (B, T, D), and nothing else, in this block.

    Hypotheses must be in the order of their utterances. Decoders without ESPnet's multi-headed
    attention are left as they are.
    """
    with ExitStack() as stack:
        for layer in getattr(decoder, "decoders", ()):
            attention = getattr(layer, "src_attn", None)
            # Variants of the attention (flash, scaled_dot_product) do more than is done here.
            if type(attention) is not MultiHeadedAttention or attention.use_flash_attn:
                continue
            attention.forward = _attend_to(attention, h)
            stack.callback(delattr, attention, "forward")  # the class's own shows again
        yield


def _attend_to(attention: MultiHeadedAttention, h: Tensor) -> Callable[..., Tensor]:
    _, keys, values = attention.forward_qkv(h[:, :1], h, h)  # (B, heads, T, D / heads)
    scaled_keys = (keys / math.sqrt(attention.d_k)).transpose(-2, -1).contiguous()
    values = values.contiguous()

    def forward(
        query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **_: object
    ) -> Tensor:
        # query (N, L, D); mask (N, 1, T), equal for the hypotheses of an utterance, or None
        n_hypotheses = query.size(0) // h.size(0)
        queries = query.reshape(h.size(0), -1, query.size(-1))
        q = attention.linear_q(queries).view(h.size(0), -1, attention.h, attention.d_k)
        scores = attention.q_norm(q.transpose(1, 2)) @ scaled_keys
        mask = None if mask is None else mask[::n_hypotheses]
        return attention.forward_attention(values, scores, mask).view_as(query)

    return forward
