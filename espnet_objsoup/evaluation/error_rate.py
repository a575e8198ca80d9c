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


def words_of(text: str) -> list[str]:
    """Words separated by spaces."""
    return text.split()


def characters_of(text: str, lang: str) -> list[str]:
    """Characters; spaces count, except in languages written without them."""
    separator = "" if lang in UNSPACED_LANGUAGES else " "
    return list(separator.join(text.split()))


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Counts in words separated by spaces.

    Raises:
        ValueError: if the numbers of utterances differ or a reference is empty.
    """
    return _counts(*([words_of(text) for text in side] for side in (references, hypotheses)))


def character_errors(
    references: Sequence[str], hypotheses: Sequence[str], lang: str
) -> ErrorCounts:
    """Counts in characters, as `characters_of` has them.

    Raises:
        ValueError: as `word_errors`.
    """
    return _counts(
        *([characters_of(text, lang) for text in side] for side in (references, hypotheses))
    )


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str, str, str]]:
    """The alignment that the counts come from.

    Returns:
        (operation, reference token, hypothesis token); the operation is C (correct), S, D or I,
        and a token is empty where a side has none.
    """
    output = _process([list(reference)], [list(hypothesis)])
    operations = {"equal": "C", "substitute": "S", "delete": "D", "insert": "I"}
    aligned = []
    for chunk in output.alignments[0]:
        left = list(reference[chunk.ref_start_idx : chunk.ref_end_idx])
        right = list(hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx])
        size = max(len(left), len(right))
        left, right = (side + [""] * (size - len(side)) for side in (left, right))
        aligned += [(operations[chunk.type], *pair) for pair in zip(left, right, strict=True)]
    return aligned


def _counts(references: list[list[str]], hypotheses: list[list[str]]) -> ErrorCounts:
    if len(references) != len(hypotheses):
        raise ValueError(
            f"error rate: {len(references)} references but {len(hypotheses)} hypotheses"
        )
    empty = [i for i, tokens in enumerate(references) if not tokens]
    if empty:
        raise ValueError(f"error rate: reference {empty[0]} is empty")
    output = _process(references, hypotheses)
    wrong = sum(r != h for r, h in zip(references, hypotheses, strict=True))
    return ErrorCounts(
        output.hits,
        output.substitutions,
        output.deletions,
        output.insertions,
        wrong,
        len(references),
    )


def _process(references: list[list[str]], hypotheses: list[list[str]]) -> jiwer.CharacterOutput:
    # Tokens become single private characters, so that jiwer aligns exactly these tokens.
    codes: dict[str, str] = {}
    encoded = [
        ["".join(codes.setdefault(t, chr(0x20000 + len(codes))) for t in tokens) for tokens in side]
        for side in (references, hypotheses)
    ]
    keep = jiwer.Compose([jiwer.ReduceToListOfListOfChars()])
    return jiwer.process_characters(*encoded, keep, keep)
