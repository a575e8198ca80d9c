# SPDX-License-Identifier: Apache-2.0
"""Pieces become one result: words, overlaps, n best."""

import itertools
import math

import pytest
import torch

from espnet_objsoup.inference.joining import TimedWord, join_at
from espnet_objsoup.inference.results import Hypothesis, Word
from espnet_objsoup.inference.transcript import (
    DecodedPiece,
    TextRules,
    TimedHypothesis,
    Transcript,
)
from espnet_objsoup.inference.words import group_tokens, token_frames


def bpe_text(tokens: list[str]) -> str:
    return "".join(tokens).replace("▁", " ").strip()


def char_text(tokens: list[str]) -> str:
    return "".join(tokens).replace("<space>", " ")


@pytest.mark.parametrize(
    ("tokens", "token_type", "lang", "words"),
    [
        (["▁la", "▁ma", "i", "son", "▁", "é"], "bpe", "fr", ["la", "maison", "é"]),
        (["la", "▁fin"], "bpe", "fr", ["la", "fin"]),
        (["▁我", "是", "谁"], "bpe", "zh", ["我", "是", "谁"]),
        ([*"ab", "<space>", *"cd", "<space>"], "char", "en", ["ab", "cd"]),
        ([*"我是"], "char", "zh", ["我", "是"]),
        (["▁", "a", "▁", "▁b"], "bpe", "en", ["a", "b"]),
        ([], "bpe", "en", []),
    ],
)
def test_words_of_tokens(tokens: list[str], token_type: str, lang: str, words: list[str]) -> None:
    to_text = char_text if token_type == "char" else bpe_text
    groups = group_tokens(tokens, token_type, lang, to_text)
    assert [group.text for group in groups] == words
    for group in groups:
        assert to_text(tokens[group.begin : group.end]).strip() == group.text


def test_words_of_a_vocabulary_of_words() -> None:
    groups = group_tokens(["the", "cat"], "word", "en", " ".join)
    assert [(g.begin, g.end, g.text) for g in groups] == [(0, 1, "the"), (1, 2, "cat")]


def posteriors(path: list[int], vocabulary: int = 5, sure: float = 0.96) -> torch.Tensor:
    p = torch.full((len(path), vocabulary), (1 - sure) / (vocabulary - 1))
    p[range(len(path)), path] = sure
    return p.log()


def test_known_times_are_found() -> None:
    path = [0] * 10 + [3] * 4 + [1] * 6 + [0] * 20 + [1] * 5 + [0] * 3 + [2] + [0] * 2
    found = token_frames(posteriors(path), [3, 1, 1, 2])
    # Half of the blanks beside a token are its own, up to two frames.
    assert found == [(8, 14), (14, 22), (38, 46), (46, 50)]


def test_the_path_is_the_most_probable_one() -> None:
    torch.manual_seed(0)
    for ids in ([1], [2, 2], [1, 3, 1], [4, 4, 4]):
        log_p = torch.randn(7, 5).log_softmax(-1)
        best = max(
            (
                path
                for path in itertools.product(range(5), repeat=7)
                if [k for k, _ in itertools.groupby(path) if k] == ids
            ),
            key=lambda path: float(log_p[range(7), list(path)].sum()),
        )
        at, expected = 0, []
        for label, run in itertools.groupby(best):
            length = len(list(run))
            if label:
                expected.append((at, at + length))
            at += length
        found = token_frames(log_p, ids)
        assert len(found) == len(ids)
        for (begin, end), (first, last) in zip(found, expected, strict=True):
            assert begin <= first < last <= end
            assert max(first - begin, end - last) <= 2


@pytest.mark.parametrize("ids", [[], [1, 1, 2], [1, 2, 3, 4]])
def test_more_tokens_than_frames_have_no_times(ids: list[int]) -> None:
    assert token_frames(posteriors([0, 1, 2]), ids) == []


def timed(text: str, start_s: float, word_s: float | None = 0.5) -> list[TimedWord]:
    return [
        TimedWord(word, None if word_s is None else start_s + word_s * (i + 0.5))
        for i, word in enumerate(text.split())
    ]


@pytest.mark.parametrize("word_s", [0.5, None])
@pytest.mark.parametrize(
    ("left", "right", "joined"),
    [
        ("a b c d e f g h", "g h i j k l m n", "a b c d e f g h i j k l m n"),
        ("a b c d e f g h", "x h i j k l m n", "a b c d e f g h i j k l m n"),
        ("a b c d e f g x", "g h i j k l m n", "a b c d e f g h i j k l m n"),
        ("A B C D E F G H", "g h i j k l m n", "A B C D E F G H i j k l m n"),
        ("h h c d e f g h", "h i j k l m n h", "h h c d e f g h i j k l m n h"),
    ],
)
def test_overlaps_are_joined(left: str, right: str, joined: str, word_s: float | None) -> None:
    """Segments of 4 s that overlap by 1 s, two words."""
    kept, skipped = join_at(timed(left, 0, word_s), timed(right, 3, word_s), (3, 4), 4, 4)
    assert " ".join(left.split()[:kept] + right.split()[skipped:]) == joined


def test_nothing_in_common() -> None:
    left, right = "a b c d e f g h", "p q r s t u v w"
    # 3 .. 4 s are heard twice: divided in the middle where times are known.
    assert join_at(timed(left, 0), timed(right, 3), (3, 4), 4, 4) == (7, 1)
    assert join_at(timed(left, 0, None), timed(right, 3, None), (3, 4), 4, 4) == (8, 0)
    assert join_at([], timed(right, 3), (3, 4), 4, 4) == (0, 1)
    assert join_at([], [], (3, 4), 4, 4) == (0, 0)


RULES = TextRules("bpe", bpe_text)


def hypothesis(text: str, score: float, start_s: float | None = None) -> TimedHypothesis:
    tokens = [f"▁{word}" for word in text.split()]
    times = []
    if start_s is not None:
        times = [(start_s + i * 0.5, start_s + i * 0.5 + 0.5) for i in range(len(tokens))]
    return TimedHypothesis(Hypothesis(text, tokens, list(range(len(tokens))), score), times)


def test_pieces_with_overlap() -> None:
    transcript = Transcript(RULES, "asr", "en", None, audio_s=7.0)
    right = DecodedPiece(3.0, 7.0, 1.0, [hypothesis("g h i j k l m n", -2, 3.0)])
    transcript.add(right, 0.25)
    transcript.add(DecodedPiece(0.0, 4.0, 0.0, [hypothesis("a b c d e f g h", -1, 0.0)]), 0.5)
    (result,) = transcript.results(1, word_times=True)
    assert result.text == "a b c d e f g h i j k l m n"
    assert result.tokens == [f"▁{c}" for c in "abcdefghijklmn"]
    assert result.token_ids == [*range(8), *range(2, 8)]
    assert (result.score, result.seconds, result.audio_s) == (-3, 0.75, 7.0)
    assert [segment.text for segment in result.segments] == ["a b c d e f g h", "i j k l m n"]
    assert result.words[8] == Word("i", 4.0, 4.5)
    assert [word.text for word in result.words] == list("abcdefghijklmn")


def test_the_best_of_the_whole_are_the_best_sums() -> None:
    scores = [[-1.0, -1.5, -4.0], [-2.0, -2.1, -2.2], [-0.1, -3.0, -3.5]]
    transcript = Transcript(RULES, "st", "fr", "en")
    for i, of_piece in enumerate(scores):
        hypotheses = [hypothesis(f"w{i}{j}", score) for j, score in enumerate(of_piece)]
        transcript.add(DecodedPiece(i, i + 1, 0.0, hypotheses), 0.0)
    found = transcript.results(5, word_times=False)
    sums = sorted(map(sum, itertools.product(*scores)), reverse=True)[:5]
    assert [result.score for result in found] == pytest.approx(sums)
    assert found[0].text == "w00 w10 w20"
    assert all(result.words is None for result in found)


def test_the_order_of_a_search_is_kept() -> None:
    """With normalize_length the best hypothesis need not have the largest score."""
    transcript = Transcript(RULES, "asr", "en", None)
    transcript.add(DecodedPiece(0, 1, 0.0, [hypothesis("a", -5), hypothesis("b", -2)]), 0.0)
    assert [result.text for result in transcript.results(2, False)] == ["a", "b"]


def test_characters_and_scripts_without_spaces() -> None:
    def result(lang: str):
        transcript = Transcript(TextRules("char", char_text, 9), "asr", lang, None)
        for i, c in enumerate("ab"):
            found = TimedHypothesis(Hypothesis(c, [c], [i], -1.0))
            transcript.add(DecodedPiece(i, i + 1, 0.0, [found]), 0.0)
        return transcript.results(1, False)[0]

    assert (result("en").text, result("en").tokens) == ("a b", ["a", "<space>", "b"])
    assert result("en").token_ids == [0, 9, 1]
    assert (result("zh").text, result("zh").tokens) == ("ab", ["a", "b"])


def test_silence_is_an_empty_result() -> None:
    (result,) = Transcript(RULES, "asr", "und", None, True, audio_s=9.0).results(3, True)
    assert (result.text, result.tokens, result.segments, result.words) == ("", [], (), ())
    assert result.audio_s == 9.0
    assert not math.isnan(result.score)
