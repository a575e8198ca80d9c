# SPDX-License-Identifier: Apache-2.0
import random

import jiwer
import pytest

from espnet_objsoup.evaluation.error_rate import ErrorCounts, character_errors, word_errors


def edit_distance(reference: list[str], hypothesis: list[str]) -> int:
    """Textbook dynamic programme, independent of the library."""
    row = list(range(len(hypothesis) + 1))
    for i, r in enumerate(reference, 1):
        previous, row[0] = row[0], i
        for j, h in enumerate(hypothesis, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (r != h))
    return row[-1]


def random_texts(seed: int) -> list[str]:
    draw = random.Random(seed)
    words = ["chat", "le", "l'eau", "été", "a", "aa"]
    return [" ".join(draw.choices(words, k=draw.randint(1, 8))) for _ in range(40)]


def test_word_errors_equal_an_independent_count_and_jiwer() -> None:
    references, hypotheses = random_texts(1), random_texts(2)
    counts = word_errors(references, hypotheses)
    errors = sum(
        edit_distance(r.split(), h.split()) for r, h in zip(references, hypotheses, strict=True)
    )
    assert counts.substitutions + counts.deletions + counts.insertions == errors
    assert counts.reference_tokens == sum(len(r.split()) for r in references)
    assert counts.rate == pytest.approx(100 * jiwer.wer(references, hypotheses))


def test_character_errors_equal_jiwer_with_spaces_and_drop_them_in_chinese() -> None:
    references, hypotheses = random_texts(3), random_texts(4)
    counts = character_errors(references, hypotheses, "fr")
    assert counts.rate == pytest.approx(100 * jiwer.cer(references, hypotheses))
    assert character_errors(["那 个 人"], ["那个女人"], "zh") == ErrorCounts(3, 0, 0, 1, 1, 1)


def test_counts_add_up_over_parts() -> None:
    references, hypotheses = random_texts(5), random_texts(6)
    parts = word_errors(references[:7], hypotheses[:7]) + word_errors(
        references[7:], hypotheses[7:]
    )
    assert parts == word_errors(references, hypotheses)


def test_empty_hypothesis_is_all_deletions() -> None:
    assert word_errors(["a b"], [""]) == ErrorCounts(0, 0, 2, 0, 1, 1)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="reference 0 is empty"):
        word_errors([""], ["a"])
    with pytest.raises(ValueError, match="1 references but 2"):
        word_errors(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="no token"):
        _ = ErrorCounts().rate
