# SPDX-License-Identifier: Apache-2.0
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_objsoup.inference.results import Result
from espnet_objsoup.transcription.subtitles import Cue, Layout, make_cues, width

from .results import make_result

SENTENCES = (
    "She left the house before the sun was up. Nobody saw her go, and nobody asked where she "
    "went that day. When she came back, it was raining hard."
)


def timed(text: str, seconds_per_word: float = 0.4, joiner: str = " ") -> Result:
    words = text.split() if joiner else list(text)
    times = [(w, i * seconds_per_word, (i + 1) * seconds_per_word) for i, w in enumerate(words)]
    lang = "en" if joiner else "zh"
    return make_result(text, words=times, audio_s=len(words) * seconds_per_word, lang=lang)


def shown(cues: list[Cue], joiner: str = " ") -> str:
    return joiner.join(line for cue in cues for line in cue.lines)


def test_a_short_text_is_one_cue_with_the_times_of_its_words() -> None:
    result = make_result(
        "bonjour à tous", words=[("bonjour", 1, 1.5), ("à", 2, 2.1), ("tous", 2.2, 3)]
    )
    assert make_cues(result, Layout()) == [Cue(1, 3, ("bonjour à tous",))]


def test_silence_has_no_cue() -> None:
    assert make_cues(make_result("", words=[]), Layout()) == []
    assert make_cues(make_result("", segments=[]), Layout()) == []


def test_a_long_text_is_cut_where_sentences_end() -> None:
    cues = make_cues(timed(SENTENCES), Layout(max_s=20))
    assert [cue.lines for cue in cues] == [
        ("She left the house before the sun was up.",),
        ("Nobody saw her go, and nobody", "asked where she went that day."),
        ("When she came back, it was raining hard.",),
    ]
    assert [cue.start_s for cue in cues] == pytest.approx([0, 3.6, 8.4])


def test_one_cue_is_not_shown_too_long() -> None:
    cues = make_cues(timed("one two three four five six seven eight", 2.0), Layout(max_s=7))
    assert len(cues) == 3
    assert max(cue.end_s - cue.start_s for cue in cues) <= 7
    assert shown(cues) == "one two three four five six seven eight"


def test_a_pause_begins_another_cue() -> None:
    words = [("yes", 0.0, 0.4), ("no", 0.9, 1.2), ("perhaps", 2.5, 3.5)]
    cues = make_cues(make_result("yes no perhaps", words=words), Layout())
    assert [cue.lines for cue in cues] == [("yes no",), ("perhaps",)]


def test_a_short_word_is_shown_long_enough_unless_the_next_comes() -> None:
    words = [("yes", 0.0, 0.1), ("no", 1.2, 1.3), ("go", 2.4, 2.5)]
    first, second, last = make_cues(make_result("yes no go", words=words), Layout(min_s=1.25))
    assert (first.end_s, second.end_s, last.end_s) == (1.2, 2.4, pytest.approx(3.65))


def test_times_of_a_segment_are_shared_out_where_words_have_none() -> None:
    result = make_result(
        "aa bbbb cc dddd",
        segments=[(0, 6, "aa bbbb"), (8, 14, "cc dddd")],
        task="st", lang="fr", target_lang="en", audio_s=14,
    )  # fmt: skip
    assert make_cues(result, Layout()) == [Cue(0, 6, ("aa bbbb",)), Cue(8, 14, ("cc dddd",))]
    narrow = make_cues(result, Layout(line_width=4, lines=1))
    assert [(cue.start_s, cue.end_s) for cue in narrow] == [(0, 2), (2, 6), (8, 10), (10, 14)]


def test_a_segment_without_alignment_keeps_its_text() -> None:
    result = make_result(
        "one two three four",
        segments=[(0, 2, "one two"), (2, 4, "three"), (4, 6, "four")],
        words=[("one", 0.5, 0.9), ("two", 1.0, 1.5), ("four", 4.5, 5.0)],
        audio_s=6,
    )  # fmt: skip
    cues = make_cues(result, Layout(line_width=5, lines=1))
    assert shown(cues) == "one two three four"
    assert [cue.start_s for cue in cues] == [0.5, 1.0, 2.0, 4.5]


def test_chinese_has_neither_spaces_nor_lines_of_42_characters() -> None:
    text = "今天天气很好我们一起去公园散步吧然后回家吃饭看书睡觉明天继续工作学习" * 2
    cues = make_cues(timed(text, 0.2, ""), Layout())
    assert shown(cues, "") == text
    assert max(len(line) for cue in cues for line in cue.lines) <= 21
    assert max(width(line) for cue in cues for line in cue.lines) > 30


def test_a_word_wider_than_a_line_is_cut() -> None:
    cues = make_cues(make_result("x" * 25, audio_s=5), Layout(line_width=10))
    assert [line for cue in cues for line in cue.lines] == ["x" * 10, "x" * 10, "x" * 5]


def test_width_of_letters() -> None:
    assert [width(text) for text in ("abc", "é", "e\u0301", "日本", "ｱ")] == [3, 1, 1, 4, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text("abc.,é日", min_size=1, max_size=30),
            st.floats(0, 3), st.floats(0, 5),
        ),
        max_size=60,
    ),
    st.integers(2, 50), st.integers(1, 3), st.booleans(),
)  # fmt: skip
def test_cues_hold_every_word_in_limits(
    parts: list[tuple[str, float, float]], line_width: int, lines: int, with_words: bool
) -> None:
    words, now = [], 0.0
    for text, pause, length in parts:
        words.append((text, now + pause, now + pause + length))
        now += pause + length
    text = " ".join(word for word, *_ in words)
    result = make_result(text, words=words if with_words else None, audio_s=now, lang="en")
    layout = Layout(line_width=line_width, lines=lines)
    cues = make_cues(result, layout)
    assert "".join(shown(cues).split()) == "".join(text.split())
    for cue, following in pairwise(cues):
        assert cue.end_s <= following.start_s + 1e-9
    for cue in cues:
        assert cue.start_s <= cue.end_s
        assert 1 <= len(cue.lines) <= lines
        assert max(map(width, cue.lines)) <= line_width


def test_hours_take_seconds() -> None:
    result = timed(SENTENCES * 1000)  # 29000 words, three hours
    start = time.process_time()  # the tests may share the processor
    make_cues(result, Layout())
    assert time.process_time() - start < 10
