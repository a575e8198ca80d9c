# SPDX-License-Identifier: Apache-2.0
"""The results of one recording from those of its pieces."""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from espnet_objsoup.data.text import UNSPACED_LANGUAGES
from espnet_objsoup.inference.joining import TimedWord, join_at
from espnet_objsoup.inference.results import Hypothesis, Result, Segment, Word
from espnet_objsoup.inference.words import TokenGroup, group_tokens

_SPACE = "<space>"


@dataclass(frozen=True)
class TimedHypothesis:
    """A hypothesis of a piece.

    Attributes:
        hypothesis: of the search.
        times: start and end in seconds of every token, in the audio; empty if not known.
    """

    hypothesis: Hypothesis
    times: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class DecodedPiece:
    """What was found in a piece.

    Attributes:
        start_s, end_s: of the piece.
        overlap_s: of its beginning with the piece before it.
        hypotheses: best first; a single empty one for silence.
    """

    start_s: float
    end_s: float
    overlap_s: float
    hypotheses: Sequence[TimedHypothesis]


@dataclass(frozen=True)
class TextRules:
    """How tokens become text.

    Attributes:
        token_type: `bpe`, `char` or `word`.
        to_text: detokenises.
        space_id: id of the token `<space>`, if there is one.
    """

    token_type: str
    to_text: Callable[[Iterable[str]], str]
    space_id: int | None = None


@dataclass
class Transcript:
    """Pieces of one recording as they come.

    Attributes:
        rules: how tokens become text.
        task, lang, target_lang, lang_was_guessed: as in `Result`; the language may come later.
        audio_s: duration of the recording, once it is known.
        pieces: by where they begin; none of silence.
        seconds: computing time.
    """

    rules: TextRules
    task: str
    lang: str
    target_lang: str | None
    lang_was_guessed: bool = False
    audio_s: float = 0.0
    pieces: dict[float, DecodedPiece] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, piece: DecodedPiece, seconds: float) -> None:
        """Add a decoded piece and what it took."""
        self.pieces[piece.start_s] = piece
        self.seconds += seconds

    def results(self, nbest: int, word_times: bool) -> list[Result]:
        """The best results.

        Pieces are searched independently, so that the best of the whole are the best sums.
        """
        pieces = [self.pieces[start] for start in sorted(self.pieces)]
        return [self._result(pieces, choice, word_times) for choice in _best(pieces, nbest)]

    def _result(
        self, pieces: Sequence[DecodedPiece], choice: Sequence[int], word_times: bool
    ) -> Result:
        found = [p.hypotheses[i] for p, i in zip(pieces, choice, strict=True)]
        if len(pieces) > 1:
            found = self._joined(pieces, found)
        text_lang = self.target_lang or self.lang
        segments = tuple(
            Segment(p.start_s, p.end_s, f.hypothesis.text, f.hypothesis.score)
            for p, f in zip(pieces, found, strict=True)
        )
        separator = "" if text_lang in UNSPACED_LANGUAGES else " "
        tokens, ids = self._concatenated([f.hypothesis for f in found], separator)
        words = [word for f in found for word in self._words(f)] if word_times else None
        return Result(
            text=separator.join(s.text for s in segments if s.text),
            tokens=tokens,
            token_ids=ids,
            score=sum(s.score for s in segments),
            task=self.task,
            lang=self.lang,
            target_lang=self.target_lang,
            lang_was_guessed=self.lang_was_guessed,
            audio_s=self.audio_s,
            seconds=self.seconds,
            segments=segments,
            words=None if words is None else tuple(words),
        )

    def _groups(self, hypothesis: Hypothesis) -> list[TokenGroup]:
        lang = self.target_lang or self.lang
        return group_tokens(hypothesis.tokens, self.rules.token_type, lang, self.rules.to_text)

    def _words(self, found: TimedHypothesis) -> list[Word]:
        if not found.times:
            return []
        return [
            Word(group.text, found.times[group.begin][0], found.times[group.end - 1][1])
            for group in self._groups(found.hypothesis)
        ]

    def _joined(
        self, pieces: Sequence[DecodedPiece], found: list[TimedHypothesis]
    ) -> list[TimedHypothesis]:
        """Hypotheses without what the piece before has already."""
        found = list(found)
        for i, piece in enumerate(pieces[1:], 1):
            if piece.overlap_s <= 0:
                continue
            left, right = self._groups(found[i - 1].hypothesis), self._groups(found[i].hypothesis)
            kept, skipped = join_at(
                _timed(left, found[i - 1]),
                _timed(right, found[i]),
                (piece.start_s, piece.start_s + piece.overlap_s),
                pieces[i - 1].end_s - pieces[i - 1].start_s,
                piece.end_s - piece.start_s,
            )
            last = left[kept - 1].end if kept else 0
            first = right[skipped].begin if skipped < len(right) else None
            found[i - 1] = self._part(found[i - 1], 0, last)
            found[i] = self._part(found[i], first, None)
        return found

    def _part(self, found: TimedHypothesis, begin: int | None, end: int | None) -> TimedHypothesis:
        """Some of the tokens; without a beginning, none."""
        old = found.hypothesis
        chosen = slice(len(old.tokens) if begin is None else begin, end)
        tokens = old.tokens[chosen]
        hypothesis = replace(
            old, text=self.rules.to_text(tokens), tokens=tokens, token_ids=old.token_ids[chosen]
        )
        return TimedHypothesis(hypothesis, found.times[chosen])

    def _concatenated(
        self, hypotheses: Sequence[Hypothesis], separator: str
    ) -> tuple[list[str], list[int]]:
        """Tokens of all pieces; characters need a space between them."""
        tokens: list[str] = []
        ids: list[int] = []
        for hypothesis in hypotheses:
            if tokens and hypothesis.tokens and separator and self.rules.space_id is not None:
                tokens.append(_SPACE)
                ids.append(self.rules.space_id)
            tokens += hypothesis.tokens
            ids += hypothesis.token_ids
        return tokens, ids


def _timed(groups: Sequence[TokenGroup], found: TimedHypothesis) -> list[TimedWord]:
    if not found.times:
        return [TimedWord(group.text, None) for group in groups]
    return [
        TimedWord(g.text, (found.times[g.begin][0] + found.times[g.end - 1][1]) / 2) for g in groups
    ]


def _best(pieces: Sequence[DecodedPiece], nbest: int) -> list[tuple[int, ...]]:
    """Choices of one hypothesis per piece with the largest sums of scores, best first."""
    choices: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for piece in pieces:
        # A search may have its own order, such as by score per token: it is kept.
        scores = list(accumulate((f.hypothesis.score for f in piece.hypotheses), min))
        choices = heapq.nlargest(
            nbest,
            ((total + s, (*chosen, i)) for total, chosen in choices for i, s in enumerate(scores)),
            key=lambda choice: choice[0],
        )
    return [chosen for _, chosen in choices]
