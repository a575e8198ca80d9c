# SPDX-License-Identifier: Apache-2.0
"""What every utterance adds to a score: a few whole numbers whose sums give WER, CER or BLEU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU

from espnet_objsoup.evaluation.bleu_tokenizers import bleu_tokenizer
from espnet_objsoup.evaluation.error_rate import character_errors, word_errors

_ORDER = 4
ERRORS_COLUMNS = 2  # errors, reference tokens
BLEU_COLUMNS = 2 + _ORDER  # hypothesis and reference tokens, n-grams that match


def error_counts(
    references: Sequence[str], hypotheses: Sequence[str], lang: str, measure: str
) -> np.ndarray:
    """Errors of every utterance.

    Args:
        references, hypotheses: texts as they were scored.
        lang: their language.
        measure: `wer` or `cer`.

    Returns:
        (U, 2) whole numbers: errors, reference tokens.
    """
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        pair = [reference], [hypothesis]
        counts = word_errors(*pair) if measure == "wer" else character_errors(*pair, lang)
        errors = counts.substitutions + counts.deletions + counts.insertions
        rows.append((errors, counts.reference_tokens))
    return np.array(rows, dtype=np.int64).reshape(-1, ERRORS_COLUMNS)


def bleu_counts(references: Sequence[str], hypotheses: Sequence[str], lang: str) -> np.ndarray:
    """sacrebleu's counts of every utterance.

    Args:
        references, hypotheses: texts as they were scored.
        lang: target language.

    Returns:
        (U, 6) whole numbers: tokens of hypothesis and reference, matching n-grams of 1 to 4.
    """
    metric = BLEU(tokenize=bleu_tokenizer(lang), effective_order=True)
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        score = metric.sentence_score(hypothesis, [reference])
        rows.append((score.sys_len, score.ref_len, *score.counts))
    return np.array(rows, dtype=np.int64).reshape(-1, BLEU_COLUMNS)


def score_of(task: str, sums: np.ndarray, short: np.ndarray) -> np.ndarray:
    """Corpus scores in percent.

    Args:
        task: `asr` or `st`.
        sums: (..., D) columns as above, added up over utterances.
        short: (..., 4) n-grams of the hypotheses, which only BLEU needs; see `ngram_totals`.

    Returns:
        (...) error rates, or BLEU with sacrebleu's own smoothing and brevity penalty.
    """
    if task == "asr":
        return 100.0 * sums[..., 0] / sums[..., 1]
    flat, totals = sums.reshape(-1, BLEU_COLUMNS), short.reshape(-1, _ORDER)
    scores = [
        BLEU.compute_bleu(
            correct=[int(n) for n in row[2:]],
            total=[int(n) for n in total],
            sys_len=int(row[0]),
            ref_len=int(row[1]),
            smooth_method="exp",
        ).score
        for row, total in zip(flat, totals, strict=True)
    ]
    return np.array(scores).reshape(sums.shape[:-1])


def ngram_totals(counts: np.ndarray) -> np.ndarray:
    """N-grams of every hypothesis, which follow from its length.

    Args:
        counts: (..., D) of utterances.

    Returns:
        (..., 4), for n from 1.
    """
    lengths = counts[..., :1]
    return np.maximum(lengths - np.arange(_ORDER), 0)


def pack(counts: np.ndarray) -> str:
    """Numbers as text: columns separated by spaces, utterances by semicolons."""
    return ";".join(" ".join(map(str, row)) for row in counts.tolist())


def unpack(text: Any, columns: int, where: str) -> np.ndarray:
    """The numbers again.

    Raises:
        ValueError: if it is something else, naming `where`.
    """
    try:
        rows = [[int(word) for word in row.split(" ")] for row in text.split(";")]
        counts = np.array(rows, dtype=np.int64)
        if counts.shape[1:] != (columns,) or (counts < 0).any():
            raise ValueError
    except (ValueError, AttributeError, OverflowError):
        raise ValueError(
            f"{where}: expected {columns} whole numbers for each utterance, found "
            f"{str(text)[:40]!r}; remove the file and run the comparison again"
        ) from None
    return counts
