# SPDX-License-Identifier: Apache-2.0
import io
import json

import pytest
import webvtt

from espnet_objsoup.transcription.formats import make_format, timestamp
from espnet_objsoup.transcription.subtitles import Layout

from .results import make_result

LONG = make_result(
    "a < b & c --> d, so it is said in this rather long sentence which needs more than one cue",
    segments=[
        (3599.5, 3605.0, "a < b & c --> d, so it is said in this rather long sentence"),
        (3605.0, 3610.25, "which needs more than one cue"),
    ],
    audio_s=3611.0,
)


def render(name: str, results: list, nbest: int = 1, many: bool = False) -> str:
    return make_format(name, nbest, Layout()).render("a b.wav", results, many)


def test_text_is_the_text() -> None:
    result = make_result("bonjour à\ntous")
    assert render("text", [result]) == "bonjour à tous\n"
    assert render("text", [result], many=True) == "a b.wav\tbonjour à tous\n"
    assert render("text", [make_result("")]) == "\n"


@pytest.mark.parametrize("name", ["text", "jsonl", "srt", "vtt"])
def test_no_token_of_a_model_moves_the_cursor(name: str) -> None:
    found = render(name, [make_result("un \x1b[2J\x9bdeux\x7f\x07")])
    assert all(c.isprintable() or c == "\n" for c in found)
    assert "deux" in found


def test_nbest_in_text_has_rank_and_score() -> None:
    results = [make_result("un", score=-1.25), make_result("deux", score=-2.5)]
    assert render("text", results, nbest=2, many=True) == (
        "a b.wav\t1\t-1.250\tun\na b.wav\t2\t-2.500\tdeux\n"
    )


def test_json_lines_have_all_of_a_result() -> None:
    result = make_result("été là", words=[("été", 0.5, 1.0), ("là", 1.0, 1.5)])
    text = render("jsonl", [result])
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    assert "été" in text
    assert json.loads(text) == {
        "path": "a b.wav",
        "text": "été là",
        "tokens": ["été", "là"],
        "token_ids": [0, 1],
        "score": -1.5,
        "task": "asr",
        "lang": "fr",
        "target_lang": None,
        "lang_was_guessed": False,
        "audio_s": 10.0,
        "seconds": 0.5,
        "segments": [{"start_s": 0.0, "end_s": 10.0, "text": "été là", "score": -1.5}],
        "words": [
            {"text": "été", "start_s": 0.5, "end_s": 1.0},
            {"text": "là", "start_s": 1.0, "end_s": 1.5},
        ],
    }
    assert "words" not in json.loads(render("jsonl", [make_result("x")]))


def test_json_lines_with_nbest() -> None:
    record = json.loads(render("jsonl", [make_result("a"), make_result("b", score=-3.0)], nbest=2))
    assert record["text"] == "a"
    assert record["nbest"] == [
        {"text": "a", "tokens": ["a"], "score": -1.5},
        {"text": "b", "tokens": ["b"], "score": -3.0},
    ]


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_subtitles_are_read_by_another_library(name: str) -> None:
    text = render(name, [LONG])
    captions = list(webvtt.from_buffer(io.StringIO(text), format=name))
    assert (
        " ".join(" ".join(c.lines) for c in captions)
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
        == LONG.text
    )
    assert captions[0].start == "00:59:59.500"
    assert captions[-1].end == "01:00:10.250"
    assert len(captions) > 1


def test_srt_by_the_letter() -> None:
    result = make_result("oui", words=[("oui", 0.25, 1.5)])
    assert render("srt", [result]) == "1\n00:00:00,250 --> 00:00:01,500\noui\n"
    two = make_result("oui non", words=[("oui", 0.25, 1.5), ("non", 4.0, 5.0)])
    assert render("srt", [two]).splitlines()[3:5] == ["", "2"]


def test_vtt_by_the_letter() -> None:
    result = make_result("a<b", words=[("a<b", 0.25, 1.5)])
    assert render("vtt", [result]) == "WEBVTT\n\n00:00:00.250 --> 00:00:01.500\na&lt;b\n"


def test_silence() -> None:
    silence = make_result("", words=[])
    assert render("srt", [silence]) == ""
    assert render("vtt", [silence]) == "WEBVTT\n"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "00:00:00,000"),
        (59.9996, "00:01:00,000"),
        (360000.001, "100:00:00,001"),
        (-1e-9, "00:00:00,000"),
    ],
)
def test_timestamp(seconds: float, expected: str) -> None:
    assert timestamp(seconds, ",") == expected


def test_a_name_that_is_not_utf8() -> None:
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    text = make_format("jsonl", 1, Layout()).render(name, [make_result("x")], True)
    assert json.loads(text.encode())["path"] == "caf\ufffd.wav"
