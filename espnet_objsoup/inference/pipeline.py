# SPDX-License-Identifier: Apache-2.0
"""From speech of any length to results: pieces, batches, search, and the whole again.

Shapes: B utterances, T frames, D features.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import batched

import numpy as np
import torch
from torch import Tensor

from espnet_objsoup.inference.audio import Source, SourceError, blocks
from espnet_objsoup.inference.encoding import Encoder
from espnet_objsoup.inference.language import language_log_likelihoods
from espnet_objsoup.inference.request import Request
from espnet_objsoup.inference.results import Hypothesis, Result
from espnet_objsoup.inference.search import Searches
from espnet_objsoup.inference.segmentation import Piece, SegmentLengths, split
from espnet_objsoup.inference.silence import is_inaudible
from espnet_objsoup.inference.transcript import (
    DecodedPiece,
    TextRules,
    TimedHypothesis,
    Transcript,
)
from espnet_objsoup.inference.words import token_frames

Outcome = list[Result] | SourceError

UNDETERMINED = "und"  # of ISO 639, for silence
# Pieces of so many batches are sorted by length, so that less is padded.
_POOLED_BATCHES = 4
# The language of a recording is guessed from its beginning.
_PIECES_FOR_LANGUAGE = 3
# Any model has been trained on utterances of this length.
_SURELY_TRAINED_S = 2.0
_NOTHING = Hypothesis("", [], [], 0.0)


@dataclass
class _Row:
    """A piece on its way.

    Attributes:
        source: number of its source.
        piece: samples.
        h: (T, D), once encoded.
        seconds: computing time so far.
    """

    source: int
    piece: Piece
    h: Tensor | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class _End:
    """All pieces of a source have been read.

    Attributes:
        audio_s: its duration.
    """

    audio_s: float


_Read = Piece | _End | SourceError


class Pipeline:
    """Decodes sources.

    Args:
        encoder, searches: of one model.
        segments: how long audio is cut.
    """

    def __init__(self, encoder: Encoder, searches: Searches, segments: SegmentLengths) -> None:
        self.encoder = encoder
        self.searches = searches
        self.segments = segments
        loaded = searches.loaded
        self.rate_hz = loaded.sample_rate_hz
        tokens = loaded.model.token_list
        space = tokens.index("<space>") if "<space>" in tokens else None
        self._told_of_guess = False
        self.rules = TextRules(loaded.token_type, loaded.tokenizer.tokens2text, space)

    def run(self, sources: Sequence[Source], request: Request) -> Iterator[Outcome]:
        """Results of every source in order, or what is wrong with it.

        No more audio is held than that of some batches.
        """
        transcripts = [self._transcript(request) for _ in sources]
        outcomes: dict[int, Outcome] = {}
        given = 0
        for pool in self._pools(sources, request.batch_size * _POOLED_BATCHES):
            rows = [_Row(i, found) for i, found in pool if isinstance(found, Piece)]
            self._decode(rows, transcripts, request)
            for i, found in pool:
                if isinstance(found, SourceError):
                    outcomes[i] = found
                elif isinstance(found, _End):
                    transcripts[i].audio_s = found.audio_s
                    outcomes[i] = transcripts[i].results(request.nbest, request.word_times)
            while given in outcomes:
                yield outcomes.pop(given)
                given += 1

    def _pools(self, sources: Sequence[Source], size: int) -> Iterator[list[tuple[int, _Read]]]:
        """What was read, so much at once.

        The pieces that a source's language is guessed from are in one pool, whatever stands before
        the source: a guess does not depend on the rest of a list.
        """
        pool: list[tuple[int, _Read]] = []
        current, decoded = -1, 0
        for i, found in self._pieces(sources):
            if i != current:
                current, decoded = i, 0
            pool.append((i, found))
            if isinstance(found, Piece):
                decoded += self._is_decoded(found)
            is_known = decoded == 0 or decoded >= _PIECES_FOR_LANGUAGE
            if len(pool) >= size and (is_known or not isinstance(found, Piece)):
                yield pool
                pool = []
        if pool:
            yield pool

    def _transcript(self, request: Request) -> Transcript:
        target = None if request.lang is None else request.targets[request.lang]
        guessed = request.lang is None
        lang = UNDETERMINED if guessed else request.lang
        return Transcript(self.rules, request.task, lang, target, guessed)

    def _pieces(self, sources: Sequence[Source]) -> Iterator[tuple[int, _Read]]:
        """Numbers of the sources with their pieces, and after those the end of each source."""
        for i, source in enumerate(sources):
            samples = 0

            def counted(source: Source = source) -> Iterator[np.ndarray]:
                nonlocal samples
                for block in blocks(source, self.rate_hz):
                    samples += len(block)
                    yield block

            try:
                for piece in split(counted(), self.rate_hz, self.segments):
                    self._check_length(source, piece)
                    self._tell_of_guess(source, piece)
                    yield i, piece
                yield i, _End(samples / self.rate_hz)
            except SourceError as err:
                yield i, err

    def _check_length(self, source: Source, piece: Piece) -> None:
        if piece.is_whole and self.encoder.is_too_short(len(piece.samples)):
            raise SourceError(
                source.name,
                f"expected at least {self.encoder.shortest / self.rate_hz:.3f} s of speech, "
                f"found {len(piece.samples) / self.rate_hz:.3f} s",
            )

    def _tell_of_guess(self, source: Source, piece: Piece) -> None:
        """Warn, once, where it is not known whether the model can take so much audio at once."""
        seconds = len(piece.samples) / self.rate_hz
        if not self.segments.is_guess or self._told_of_guess or seconds <= _SURELY_TRAINED_S:
            return
        self._told_of_guess = True
        logging.warning(
            "%s: %.1f s are decoded at once, for the model does not say how long its training "
            "utterances were (%g s are assumed); if text is missing or repeated, set a lower "
            "max_segment_s (--max_segment_s, or SegmentOptions)",
            *(source.name, seconds, self.segments.segment_s),
        )

    def pieces(self, source: Source) -> Iterator[Piece]:
        """Pieces of a source.

        Raises:
            SourceError: if it cannot be read or is too short.
        """
        for _, found in self._pieces([source]):
            if isinstance(found, SourceError):
                raise found
            if isinstance(found, Piece):
                yield found

    def _is_decoded(self, piece: Piece) -> bool:
        return not (is_inaudible(piece.samples) or self.encoder.is_too_short(len(piece.samples)))

    def _decode(
        self, rows: Sequence[_Row], transcripts: Sequence[Transcript], request: Request
    ) -> None:
        """Decode pieces and add them to the transcripts of their sources."""
        heard = [row for row in rows if self._is_decoded(row.piece)]
        heard.sort(key=lambda row: -len(row.piece.samples))
        for batch in batched(heard, request.batch_size):
            _in_halves(self._encode, batch)
        self._guess_languages(rows, transcripts, request)
        found: dict[int, list[TimedHypothesis]] = {}
        for batch in batched(heard, request.batch_size):
            results = _in_halves(lambda part: self._search(part, transcripts, request), batch)
            found |= {id(row): of_row for row, of_row in zip(batch, results, strict=True)}
        for row in rows:
            start_s = row.piece.start_s
            end_s = start_s + len(row.piece.samples) / self.rate_hz
            hypotheses = found.get(id(row), [TimedHypothesis(_NOTHING)])
            decoded = DecodedPiece(start_s, end_s, row.piece.overlap_s, hypotheses)
            transcripts[row.source].add(decoded, row.seconds)

    def _encode(self, rows: Sequence[_Row]) -> list[None]:
        start = time.perf_counter()
        h, lengths = self.encoder([row.piece.samples for row in rows])
        for row, of_row, length in zip(rows, h, lengths.tolist(), strict=True):
            row.h = of_row[:length]
        _share_time(rows, time.perf_counter() - start)
        return [None] * len(rows)

    def _guess_languages(
        self, rows: Sequence[_Row], transcripts: Sequence[Transcript], request: Request
    ) -> None:
        if request.lang is not None:
            return
        of_source: dict[int, list[_Row]] = {}
        for row in rows:  # in the order of the audio
            if row.h is not None and transcripts[row.source].lang == UNDETERMINED:
                of_source.setdefault(row.source, []).append(row)
        chosen = [r for of_one in of_source.values() for r in of_one[:_PIECES_FOR_LANGUAGE]]
        scores: dict[int, Tensor] = {}
        for batch in batched(chosen, request.batch_size):
            found = _in_halves(lambda part: self._language_scores(part, request), batch)
            for row, of_row in zip(batch, found, strict=True):
                scores[row.source] = scores.get(row.source, 0.0) + of_row
        for source, of_source_scores in scores.items():
            lang = request.languages[int(of_source_scores.argmax())]
            transcripts[source].lang = lang
            transcripts[source].target_lang = request.targets[lang]

    def _language_scores(self, rows: Sequence[_Row], request: Request) -> list[Tensor]:
        start = time.perf_counter()
        h, lengths = _padded(rows)
        found = language_log_likelihoods(self.searches, h, lengths, request.languages)
        _share_time(rows, time.perf_counter() - start)
        return list(found)

    def identify(self, source: Source, request: Request) -> dict[str, float]:
        """Probability of each language, from the beginning of a source."""
        total = torch.zeros(len(request.targets))
        count = 0
        for piece in self.pieces(source):
            if count == _PIECES_FOR_LANGUAGE:
                break
            if self._is_decoded(piece):
                row = _Row(0, piece)
                self._encode([row])
                total = total + self._language_scores([row], request)[0].cpu()
                count += 1
        return dict(zip(request.languages, total.softmax(0).tolist(), strict=True))

    def encode_one(self, source: Source) -> Tensor:
        """Encoder output (1, T, D) of a source that is one piece.

        Raises:
            SourceError: if it is longer, or cannot be used.
        """
        row = _Row(0, next(self.pieces(source)))
        if not row.piece.is_whole:
            raise SourceError(
                source.name,
                f"expected at most {self.segments.whole_s} s of speech, found more",
            )
        self._encode([row])
        return row.h[None]

    def _search(
        self, rows: Sequence[_Row], transcripts: Sequence[Transcript], request: Request
    ) -> list[list[TimedHypothesis]]:
        start = time.perf_counter()
        h, lengths = _padded(rows)
        of_rows = [transcripts[row.source] for row in rows]
        found = self.searches.search(
            h,
            lengths,
            request.task,
            [transcript.lang for transcript in of_rows],
            [transcript.target_lang for transcript in of_rows],
            request.nbest,
        )
        timed = [
            self._timed(row, hypotheses, request)
            for row, hypotheses in zip(rows, found, strict=True)
        ]
        _share_time(rows, time.perf_counter() - start)
        return timed

    def _timed(
        self, row: _Row, hypotheses: Sequence[Hypothesis], request: Request
    ) -> list[TimedHypothesis]:
        """Hypotheses with the times of their tokens, where they are asked for or help to join."""
        head = self.searches.head(request.task)
        helps = request.word_times or not row.piece.is_whole
        if request.task != "asr" or head.ctc is None or not helps:
            return [TimedHypothesis(hypothesis) for hypothesis in hypotheses]
        log_p = self.searches.ctc_log_p(row.h[None], request.task)[0].float()
        shift_s = self.encoder.frame_shift_s
        begin_s, end_s = (
            row.piece.start_s,
            row.piece.start_s + len(row.piece.samples) / self.rate_hz,
        )
        timed = []
        for hypothesis in hypotheses:
            spans = token_frames(log_p, hypothesis.token_ids, self.searches.model.blank_id)
            if hypothesis.tokens and not spans:
                logging.warning("no times: more tokens than frames in %r", hypothesis.text)
            times = [
                (begin_s + first * shift_s, min(begin_s + last * shift_s, end_s))
                for first, last in spans
            ]
            timed.append(TimedHypothesis(hypothesis, times))
        return timed


def _padded(rows: Sequence[_Row]) -> tuple[Tensor, Tensor]:
    """Encoder output (B, T, D) and lengths (B,)."""
    lengths = torch.tensor([len(row.h) for row in rows], device=rows[0].h.device)
    return torch.nn.utils.rnn.pad_sequence([row.h for row in rows], batch_first=True), lengths


def _share_time(rows: Sequence[_Row], seconds: float) -> None:
    total = sum(len(row.piece.samples) for row in rows)
    for row in rows:
        row.seconds += seconds * len(row.piece.samples) / total


def _in_halves[T](run: Callable[[Sequence[_Row]], list[T]], rows: Sequence[_Row]) -> list[T]:
    """Compute rows together; in halves where they do not fit a GPU's memory."""
    try:
        return run(rows)
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
        logging.warning("out of memory with %d segments at once: in halves", len(rows))
    torch.cuda.empty_cache()
    middle = len(rows) // 2
    return _in_halves(run, rows[:middle]) + _in_halves(run, rows[middle:])
