# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_objsoup.evaluation.cross_check import CrossCheckError, cross_check, splet_counts
from espnet_objsoup.evaluation.error_rate import (
    ErrorCounts,
    align,
    character_errors,
    word_errors,
)

WORDS = ["chat", "le", "l'eau", "été", "a", "aa", "你好"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8)


@st.composite
def edited(draw: st.DrawFn) -> tuple[str, str]:
    """A text, and what random edits make of it."""
    words = draw(texts)
    hypothesis = []
    for word in words:
        edit = draw(st.sampled_from(["keep", "keep", "substitute", "delete", "insert"]))
        if edit == "substitute":
            hypothesis.append(draw(st.sampled_from(WORDS)))
        elif edit != "delete":
            hypothesis.append(word)
        if edit == "insert":
            hypothesis.append(draw(st.sampled_from(WORDS)))
    return " ".join(words), " ".join(hypothesis)


@settings(deadline=None, max_examples=200)
@given(st.lists(edited(), min_size=1, max_size=6), st.sampled_from(["fr", "zh"]))
def test_both_implementations_agree_on_random_edits(
    pairs: list[tuple[str, str]], lang: str
) -> None:
    references, hypotheses = map(list, zip(*pairs, strict=True))
    words = word_errors(references, hypotheses)
    characters = character_errors(references, hypotheses, lang)
    found = cross_check("asr/x", references, hypotheses, lang, words, characters)
    assert found["wer"].rate == pytest.approx(words.rate)
    assert found["cer"].rate == pytest.approx(characters.rate)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["keep", "delete"]), min_size=1, max_size=9), st.booleans())
def test_unambiguous_edits_have_equal_counts(edits: list[str], tail: bool) -> None:
    # All words differ and nothing is substituted: there is one best alignment.
    reference = [f"w{i}" for i in range(len(edits))]
    kept = [w for w, edit in zip(reference, edits, strict=True) if edit == "keep"]
    hypothesis = kept if not tail or edits[-1] == "delete" else [*kept, "more"]
    pair = [" ".join(reference)], [" ".join(hypothesis)]
    ours, theirs = word_errors(*pair), splet_counts(*pair, "en")["wer"]
    assert (ours.hits, ours.substitutions, ours.deletions, ours.insertions) == (
        theirs.hits, theirs.substitutions, theirs.deletions, theirs.insertions,
    )  # fmt: skip


@given(edited())
def test_alignment_has_the_counts_and_both_texts(pair: tuple[str, str]) -> None:
    reference, hypothesis = (text.split() for text in pair)
    aligned = align(reference, hypothesis)
    counts = word_errors([pair[0]], [pair[1]])
    names = {"C": "hits", "S": "substitutions", "D": "deletions", "I": "insertions"}
    for operation, name in names.items():
        assert sum(row[0] == operation for row in aligned) == getattr(counts, name)
    assert [left for _, left, _ in aligned if left] == reference
    assert [right for _, _, right in aligned if right] == hypothesis


def test_command_line_of_splet_says_the_same(tmp_path: Path) -> None:
    references, hypotheses = ["le chat dort", "un chien"], ["le chat", "un gros chien"]
    for name, side in (("ref", references), ("hyp", hypotheses)):
        (tmp_path / name).write_text("".join(f"u{i} {text}\n" for i, text in enumerate(side)))
    (tmp_path / "metrics.yaml").write_text("- name: wer\n- name: cer\n")
    command = [sys.executable, "-m", "splet.bin.measure", "--metrics_config", "metrics.yaml"]
    command += ["--pred", "hyp", "--gt", "ref"]
    finished = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    summary = json.loads(finished.stdout)
    found = splet_counts(references, hypotheses, "fr")
    for measure in ("wer", "cer"):
        assert summary[measure] == pytest.approx(found[measure].rate / 100)
        assert summary[f"{measure}_del"] == found[measure].deletions


def test_difference_names_objective_and_both_values() -> None:
    words = word_errors(["a b c d"], ["a b c"])
    with pytest.raises(CrossCheckError, match=r"asr/en: CER: .* 0\.0000 .* 28\.5714"):
        cross_check("asr/en", ["a b c d"], ["a b c"], "en", words, ErrorCounts(hits=7))


def test_long_texts_and_empty_hypotheses() -> None:
    reference = " ".join(["word"] * 600)
    pair = [reference, "a b"], [reference[5:], ""]
    counts = word_errors(*pair), character_errors(*pair, "en")
    found = cross_check("asr/en", *pair, "en", *counts)
    assert found["wer"].deletions == 3
