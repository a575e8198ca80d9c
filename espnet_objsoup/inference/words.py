# SPDX-License-Identifier: Apache-2.0
"""Words of tokens, and when they were said. Neither torch nor espnet2 is imported at first.

Shapes: T frames, L tokens, V vocabulary.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from espnet_objsoup.data.text import UNSPACED_LANGUAGES

if TYPE_CHECKING:
    from torch import Tensor

_SPACE = "<space>"
_WORD_START = "▁"
_MAX_WIDENING = 2  # frames


@dataclass(frozen=True)
class TokenGroup:
    """Tokens of one word.

    Attributes:
        begin, end: of its tokens, as a slice.
        text: the word.
    """

    begin: int
    end: int
    text: str


def group_tokens(
    tokens: Sequence[str],
    token_type: str,
    lang: str,
    to_text: Callable[[Iterable[str]], str],
) -> list[TokenGroup]:
    """Words of a token sequence; every token but a space is in one.

    Args:
        tokens: of a hypothesis.
        token_type: `bpe`, `char` or `word`.
        lang: of the text; in a language written without spaces every token stands for itself.
        to_text: detokenises.
    """
    starts = [i for i, token in enumerate(tokens) if _starts_word(i, tokens, token_type, lang)]
    groups = []
    for begin, end in pairwise([*starts, len(tokens)]):
        while end > begin and tokens[end - 1] == _SPACE:
            end -= 1
        text = to_text(tokens[begin:end]).strip()
        if text:
            groups.append(TokenGroup(begin, end, text))
    return groups


def _starts_word(i: int, tokens: Sequence[str], token_type: str, lang: str) -> bool:
    if tokens[i] == _SPACE:
        return False
    if i == 0 or token_type == "word" or lang in UNSPACED_LANGUAGES:
        return True
    if token_type == "char":
        return tokens[i - 1] == _SPACE
    return tokens[i].startswith(_WORD_START)


def token_frames(log_p: "Tensor", ids: Sequence[int], blank: int = 0) -> list[tuple[int, int]]:
    """First frame, and frame after the last, of every token: the best CTC path through them.

    Args:
        log_p: (T, V) log-probabilities of CTC.
        ids: L tokens.
        blank: id of `<blank>`.

    Returns:
        L pairs; none if there are too few frames for so many tokens. CTC marks many a token by a
        frame in its middle, so half of the blanks beside it are its own, up to `_MAX_WIDENING`.
    """
    import torch
    from torchaudio.functional import forced_align

    repeats = sum(a == b for a, b in pairwise(ids))
    if not ids or len(log_p) < len(ids) + repeats:
        return []
    targets = torch.tensor([list(ids)], dtype=torch.int32, device=log_p.device)
    (path,), _ = forced_align(log_p[None].contiguous(), targets, blank=blank)
    labels, counts = torch.unique_consecutive(path, return_counts=True)
    ends = counts.cumsum(0)
    runs = zip(labels.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
    return _widened([(begin, end) for label, begin, end in runs if label != blank], len(path))


def _widened(spans: Sequence[tuple[int, int]], frames: int) -> list[tuple[int, int]]:
    """Spans with their shares of the gaps beside them."""
    edges = [0, *(edge for span in spans for edge in span), frames]
    gaps = [after - before for before, after in zip(edges[::2], edges[1::2], strict=True)]
    return [
        (
            begin - min((before + 1) // 2, _MAX_WIDENING),
            end + min(after // 2, _MAX_WIDENING),
        )
        for (begin, end), before, after in zip(spans, gaps, gaps[1:], strict=False)
    ]
