# SPDX-License-Identifier: Apache-2.0
"""Word and character error rates, from counts that add up over a corpus (jiwer's alignment)."""

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer

from espnet_objsoup.data.text import UNSPACED_LANGUAGES


@dataclass(frozen=True)
class ErrorCounts:
    """Counts of an alignment of hypotheses with references.

    Attributes:
        hits, substitutions, deletions, insertions: tokens.
        wrong_sentences, sentences: utterances with an error, and all.
    """

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    wrong_sentences: int = 0
    sentences: int = 0

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        """Counts of two corpora together."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return ErrorCounts(*(a + b for a, b in pairs))

    @property
    def reference_tokens(self) -> int:
        """Tokens of the references."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per reference token in percent.

        Raises:
            ValueError: without reference tokens.
        """
        if self.reference_tokens == 0:
            raise ValueError("error rate: the references have no token")
        errors = self.substitutions + self.deletions + self.insertions
        return 100.0 * errors / self.reference_tokens


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Counts in words separated by spaces.

    Raises:
        ValueError: if the numbers of utterances differ or a reference is empty.
    """
    return _counts([r.split() for r in references], [h.split() for h in hypotheses])


def character_errors(
    references: Sequence[str], hypotheses: Sequence[str], lang: str
) -> ErrorCounts:
    """Counts in characters; spaces count, except in languages written without them.

    Raises:
        ValueError: as `word_errors`.
    """
    separator = "" if lang in UNSPACED_LANGUAGES else " "
    texts = [[separator.join(t.split()) for t in side] for side in (references, hypotheses)]
    return _counts(*([list(text) for text in side] for side in texts))


def _counts(references: list[list[str]], hypotheses: list[list[str]]) -> ErrorCounts:
    if len(references) != len(hypotheses):
        raise ValueError(
            f"error rate: {len(references)} references but {len(hypotheses)} hypotheses"
        )
    empty = [i for i, tokens in enumerate(references) if not tokens]
    if empty:
        raise ValueError(f"error rate: reference {empty[0]} is empty")
    # Tokens become single private characters, so that jiwer aligns exactly these tokens.
    codes: dict[str, str] = {}
    encoded = [
        ["".join(codes.setdefault(t, chr(0x20000 + len(codes))) for t in tokens) for tokens in side]
        for side in (references, hypotheses)
    ]
    keep = jiwer.Compose([jiwer.ReduceToListOfListOfChars()])
    output = jiwer.process_characters(*encoded, keep, keep)
    wrong = sum(r != h for r, h in zip(references, hypotheses, strict=True))
    return ErrorCounts(
        output.hits,
        output.substitutions,
        output.deletions,
        output.insertions,
        wrong,
        len(references),
    )
