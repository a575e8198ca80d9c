# SPDX-License-Identifier: Apache-2.0
"""Subtitles from text with times: few characters, short enough to be read, cut where it reads well.

Words have their times from CTC alignment where the result has them. Elsewhere (translations, models
without CTC) a segment's time is shared out by the length of its words: an estimate.
"""

import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from espnet_objsoup.data.text import UNSPACED_LANGUAGES
from espnet_objsoup.inference.results import Result, Segment, Word

# A pause after which the next words are another subtitle.
_PAUSE_S = 1.0
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "।", "؟")
_CLAUSE_ENDS = (",", ";", ":", "،", "、", "，", "；", "：")
_COST_OF_RAGGED_END = 1.3
_COST_OF_CLAUSE_END = 0.9
_COST_OF_ROOM = 0.5
# So that a sentence that fills a line has a cue of its own, but two of half a line share one.
_COST_OF_CUE = 0.5
# More than lines can gain by being of equal length: no line more than needed.
_COST_OF_LINE = 4.0


@dataclass(frozen=True)
class Layout:
    """Limits of a subtitle.

    Attributes:
        line_width: columns in a line; a Chinese, Japanese or Korean character takes two.
        lines: lines shown at once.
        max_s, min_s: how long one is shown, in seconds. The shortest time is only kept where the
            next one does not begin earlier.
    """

    line_width: int = 42
    lines: int = 2
    max_s: float = 7.0
    min_s: float = 5 / 6


@dataclass(frozen=True)
class Cue:
    """One subtitle.

    Attributes:
        start_s, end_s: when it is shown.
        lines: what is shown.
    """

    start_s: float
    end_s: float
    lines: tuple[str, ...]


def make_cues(result: Result, layout: Layout) -> list[Cue]:
    """Subtitles of a result in the order of time, none over another; silence has none."""
    spoken = result.lang if result.task == "asr" else result.target_lang
    joiner = "" if spoken in UNSPACED_LANGUAGES else " "
    cues = []
    for words in _phrases(_timed_words(result, joiner, layout)):
        for begin, end in _best_breaks(words, joiner, layout):
            group = words[begin:end]
            lines = _wrap([word.text for word in group], joiner, layout.line_width)
            cues.append(Cue(group[0].start_s, group[-1].end_s, lines))
    return _spread(cues, layout)


def width(text: str) -> int:
    """Columns that a text takes in a font of fixed width."""
    return sum(
        0
        if unicodedata.combining(letter)
        else 2
        if unicodedata.east_asian_width(letter) in "WF"
        else 1
        for letter in text
    )


def _timed_words(result: Result, joiner: str, layout: Layout) -> list[Word]:
    """All words in the order of time, none wider than a line."""
    known = deque(result.words or ())
    words: list[Word] = []
    for segment in result.segments:
        for word in _known_words(segment, known) or _estimate(segment, joiner):
            for piece in _pieces(word, layout.line_width):
                # Segments overlap, and so may the times of their words.
                start_s = max(piece.start_s, words[-1].end_s if words else 0.0)
                words.append(Word(piece.text, start_s, max(piece.end_s, start_s)))
    return words


def _known_words(segment: Segment, known: deque[Word]) -> list[Word]:
    """Take a segment's words; none where its alignment failed, so that words are missing."""
    wanted = "".join(segment.text.split())
    taken, text = [], ""
    for word in known:
        if text == wanted:
            break
        taken.append(word)
        text += "".join(word.text.split())
    if text != wanted:
        return []
    for _ in taken:
        known.popleft()
    return taken


def _estimate(segment: Segment, joiner: str) -> list[Word]:
    """Words of a segment, whose time is shared out by their lengths."""
    texts = segment.text.split() if joiner else list("".join(segment.text.split()))
    return _share(texts, segment.start_s, segment.end_s)


def _share(texts: Sequence[str], start_s: float, end_s: float) -> list[Word]:
    total = sum(map(len, texts))
    words, done = [], 0
    for text in texts:
        times = [start_s + (end_s - start_s) * count / total for count in (done, done + len(text))]
        words.append(Word(text, *times))
        done += len(text)
    return words


def _pieces(word: Word, limit: int) -> list[Word]:
    """A word, cut up where it is wider than a line."""
    if width(word.text) <= limit:
        return [word]
    pieces = [""]
    for letter in word.text:
        if pieces[-1] and width(pieces[-1] + letter) > limit:
            pieces.append("")
        pieces[-1] += letter
    return _share(pieces, word.start_s, word.end_s)


def _phrases(words: Sequence[Word]) -> list[list[Word]]:
    """Words between pauses."""
    phrases: list[list[Word]] = []
    for word in words:
        if phrases and word.start_s - phrases[-1][-1].end_s < _PAUSE_S:
            phrases[-1].append(word)
        else:
            phrases.append([word])
    return phrases


def _best_breaks(words: Sequence[Word], joiner: str, layout: Layout) -> list[tuple[int, int]]:
    """Ranges of words, one for each cue: few cues, about equally full, ended by punctuation."""
    widths = [width(word.text) for word in words]
    room = layout.line_width * layout.lines

    def choices(end: int) -> Iterator[tuple[int, float]]:
        last = words[end - 1]
        lines, line, total = 1, 0, 0  # filled from the last word backwards
        for begin in range(end - 1, -1, -1):
            too_long = last.end_s - words[begin].start_s > layout.max_s
            longer = line + widths[begin] + (len(joiner) if line else 0)
            if longer > layout.line_width:
                lines, longer = lines + 1, widths[begin]
            if lines > layout.lines or (too_long and begin < end - 1):
                return
            line = longer
            total += widths[begin] + (len(joiner) if total else 0)
            empty = _COST_OF_ROOM * (1 - total / room) ** 2
            yield begin, _COST_OF_CUE + empty + _end_cost(last.text)

    return _cheapest(len(words), choices)


def _end_cost(text: str) -> float:
    if text.endswith(_SENTENCE_ENDS):
        return 0.0
    return _COST_OF_CLAUSE_END if text.endswith(_CLAUSE_ENDS) else _COST_OF_RAGGED_END


def _wrap(texts: Sequence[str], joiner: str, line_width: int) -> tuple[str, ...]:
    """As few lines as possible, of about equal length."""

    def choices(end: int) -> Iterator[tuple[int, float]]:
        for begin in range(end - 1, -1, -1):
            wide = width(joiner.join(texts[begin:end]))
            if wide > line_width:
                return
            yield begin, _COST_OF_LINE + (1 - wide / line_width) ** 2

    return tuple(joiner.join(texts[begin:end]) for begin, end in _cheapest(len(texts), choices))


def _cheapest(
    count: int, choices: Callable[[int], Iterable[tuple[int, float]]]
) -> list[tuple[int, int]]:
    """Ranges that together are 0 .. count, at the least sum of costs.

    Args:
        count: number of items; above zero.
        choices: for an end, the beginnings that are allowed (end - 1 always is) with their costs.
    """
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, count + 1):
        best.append(min((best[begin][0] + cost, begin) for begin, cost in choices(end)))
    ranges, end = [], count
    while end:
        begin = best[end][1]
        ranges.append((begin, end))
        end = begin
    return ranges[::-1]


def _spread(cues: Sequence[Cue], layout: Layout) -> list[Cue]:
    """Show short ones longer and none beyond the start of the next."""
    spread = []
    for index, cue in enumerate(cues):
        end_s = max(cue.end_s, cue.start_s + layout.min_s)
        if index + 1 < len(cues):
            end_s = min(end_s, max(cues[index + 1].start_s, cue.start_s))
        spread.append(Cue(cue.start_s, end_s, cue.lines))
    return spread
