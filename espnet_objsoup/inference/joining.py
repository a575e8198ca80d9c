# SPDX-License-Identifier: Apache-2.0
"""Joining what was decoded twice, where two segments overlap."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

_MARGIN_S = 0.5


@dataclass(frozen=True)
class TimedWord:
    """A word of a segment.

    Attributes:
        text: of the word.
        middle_s: when it was said, in the audio; None if that is not known.
    """

    text: str
    middle_s: float | None


def join_at(
    left: Sequence[TimedWord],
    right: Sequence[TimedWord],
    overlap: tuple[float, float],
    left_s: float,
    right_s: float,
) -> tuple[int, int]:
    """Where two overlapping segments are joined.

    The longest run of words that both have in the overlap is taken once. Without any, words are
    divided at the middle of the overlap if it is known when they were said; else all are kept.

    Args:
        left, right: words of both segments.
        overlap: its begin and end in seconds.
        left_s, right_s: duration of the segments.

    Returns:
        Number of words kept of `left`, and left out of `right`.
    """
    begin, end = overlap
    tail = _in_overlap(left[::-1], begin - _MARGIN_S, None, (end - begin) / left_s)
    head = _in_overlap(right, None, end + _MARGIN_S, (end - begin) / right_s)
    first = len(left) - tail
    matcher = SequenceMatcher(
        None,
        [word.text.lower() for word in left[first:]],
        [word.text.lower() for word in right[:head]],
        autojunk=False,
    )
    match = matcher.find_longest_match()
    if match.size > 0:
        return first + match.a + match.size, match.b + match.size
    middle = (begin + end) / 2
    if any(word.middle_s is None for word in (*left, *right)):
        return len(left), 0
    kept = sum(word.middle_s < middle for word in left)
    return kept, sum(word.middle_s < middle for word in right)


def _in_overlap(
    words: Sequence[TimedWord], after_s: float | None, before_s: float | None, share: float
) -> int:
    """How many of the first words may lie in the overlap.

    Args:
        words: from the overlap's side on.
        after_s, before_s: bounds of their times.
        share: of the segment that overlaps, for words without times.
    """
    if any(word.middle_s is None for word in words):
        return min(len(words), round(1.5 * share * len(words)) + 2)
    count = 0
    for word in words:
        if (after_s is not None and word.middle_s < after_s) or (
            before_s is not None and word.middle_s > before_s
        ):
            break
        count += 1
    return count
