# SPDX-License-Identifier: Apache-2.0
"""Where long audio is cut."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from espnet_objsoup.inference import InferenceError, SegmentOptions
from espnet_objsoup.inference.lengths import TrainedLength, trained_length
from espnet_objsoup.inference.segmentation import Piece, SegmentLengths, split

RATE = 8000
LENGTHS = SegmentLengths(segment_s=6.0, whole_s=6.0, overlap_s=1.0)


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in syllables of 0.2 s, as loud as speech is."""
    samples = round(seconds * RATE)
    envelope = 0.6 + 0.4 * np.cos(2 * np.pi * 5 * np.arange(samples) / RATE)
    noise = np.random.default_rng(seed).standard_normal(samples)
    return (0.1 * envelope * noise).astype(np.float32)


def silence(seconds: float, level: float = 1e-4) -> np.ndarray:
    draw = np.random.default_rng(1)
    return (level * draw.standard_normal(round(seconds * RATE))).astype(np.float32)


def cut(*parts: np.ndarray, lengths: SegmentLengths = LENGTHS) -> list[Piece]:
    whole = np.concatenate(parts)
    blocks = [whole[i : i + RATE] for i in range(0, len(whole), RATE)]
    return list(split(blocks, RATE, lengths))


def spans(pieces: list[Piece]) -> list[tuple[float, float]]:
    return [(p.start_s, p.start_s + len(p.samples) / RATE) for p in pieces]


@pytest.mark.parametrize("seconds", [0.3, 5.9, 6.0])
def test_short_audio_is_one_piece_as_it_is(seconds: float) -> None:
    samples = np.concatenate([silence(0.1), speech(seconds - 0.1)])
    (piece,) = cut(samples)
    assert piece.is_whole
    assert np.array_equal(piece.samples, samples)


@pytest.mark.parametrize("level", [0.0, 1e-4, 3e-3])
def test_long_pauses_end_pieces(level: float) -> None:
    durations = [2.0, 3.5, 1.5, 4.0, 2.5]
    parts, expected, at = [], [], 0.0
    for seed, duration in enumerate(durations):
        parts += [speech(duration, seed), silence(0.6, level)]
        expected.append((at, at + duration))
        at += duration + 0.6
    pieces = cut(*parts)
    assert not any(piece.is_whole or piece.overlap_s for piece in pieces)
    for found, wanted in zip(spans(pieces), expected, strict=True):
        assert found == pytest.approx(wanted, abs=0.06)


def test_silence_around_and_clicks_between_are_left_out() -> None:
    click = np.full(80, 0.3, np.float32)
    pieces = cut(silence(9), speech(2), silence(5), click, silence(7), speech(3), silence(20))
    for found, wanted in zip(spans(pieces), [(9, 11), (23.01, 26.01)], strict=True):
        assert found == pytest.approx(wanted, abs=0.06)


def test_only_silence() -> None:
    assert cut(silence(30, 0.0)) == []


@pytest.mark.parametrize("seconds", [6.05, 7.0, 12.3, 31.7])
def test_without_a_pause_pieces_overlap(seconds: float) -> None:
    samples = speech(seconds)
    pieces = cut(samples)
    found = spans(pieces)
    assert len(found) > 1
    assert found[0][0] == 0
    assert found[-1][1] == pytest.approx(seconds, abs=1e-3)
    assert pieces[0].overlap_s == 0
    for (_, end), (start, _), piece in zip(found, found[1:], pieces[1:], strict=False):
        assert piece.overlap_s == pytest.approx(1.0)
        assert end - start == pytest.approx(1.0)
    for piece, (start, end) in zip(pieces, found, strict=True):
        assert 1.2 - 1e-3 <= end - start <= 6.0 + 1e-3
        assert np.array_equal(piece.samples, samples[round(start * RATE) : round(end * RATE)])


@pytest.mark.parametrize("seed", range(100))
def test_all_that_is_loud_is_in_a_piece(seed: int) -> None:
    """Speech, pauses and rests of any number of samples."""
    draw = np.random.default_rng(seed)
    parts = [
        part
        for i in range(draw.integers(1, 6))
        for part in (
            speech(draw.uniform(0.3, 9), i),
            silence(draw.choice([0.0, 0.3, 1.2]) + draw.uniform(0, 0.02), draw.choice([0.0, 1e-4])),
        )
    ]
    whole = np.concatenate(parts)
    pieces = cut(whole)
    covered = np.zeros(len(whole), bool)
    for piece in pieces:
        begin = round(piece.start_s * RATE)
        assert len(piece.samples) <= 6.0 * RATE
        assert np.array_equal(whole[begin : begin + len(piece.samples)], piece.samples)
        covered[begin : begin + len(piece.samples)] = True
    assert np.count_nonzero(np.abs(whole[~covered]) > 0.02) == 0


def test_a_short_pause_serves_where_there_is_no_long_one() -> None:
    pieces = cut(speech(4.5), silence(0.25), speech(4.5, 1))
    assert [piece.overlap_s for piece in pieces] == [0, 0]
    for found, wanted in zip(spans(pieces), [(0, 4.5), (4.75, 9.25)], strict=True):
        assert found == pytest.approx(wanted, abs=0.06)


def test_no_more_is_read_than_a_piece_needs() -> None:
    read = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal read
        while True:
            read += 1
            yield speech(1.0, read)

    pieces = split(endless(), RATE, LENGTHS)
    for count in range(1, 200):
        piece = next(pieces)
        assert read <= piece.start_s + len(piece.samples) / RATE + 8.2, count


def test_lengths_of_a_model() -> None:
    trained = TrainedLength(12.0, 20.0)
    assert SegmentOptions().for_model(trained) == SegmentLengths(12.0, 20.0, 2.0)
    assert SegmentOptions().for_model(None) == SegmentLengths(30.0, 30.0, 2.0, is_guess=True)
    assert SegmentOptions(8.0).for_model(trained) == SegmentLengths(8.0, 8.0, 2.0)
    assert SegmentOptions(max_whole_s=25).for_model(trained) == SegmentLengths(12.0, 25, 2.0)
    assert SegmentOptions(4.0, overlap_s=3).for_model(None) == SegmentLengths(4.0, 4.0, 1.0)
    for wrong in ({"max_segment_s": 0.5}, {"max_whole_s": 0}, {"overlap_s": -1},
                  {"max_segment_s": math.inf}, {"max_whole_s": math.inf},
                  {"max_segment_s": math.nan}):  # fmt: skip
        with pytest.raises(InferenceError, match=next(iter(wrong))):
            SegmentOptions(**wrong)


def test_lengths_of_training(tmp_path) -> None:
    shapes = tmp_path / "speech_shape"
    shapes.write_text("".join(f"utt{i} {i * 160}\n" for i in range(1, 101)))
    conf = {"frontend": "default", "train_shape_file": [str(shapes)]}
    found = trained_length(conf)
    assert found.longest_s == 1.0
    assert found.usual_s == pytest.approx(0.95, abs=0.01)
    assert trained_length({**conf, "trained_length_s": [2.5, 4]}) == TrainedLength(2.5, 4.0)
    assert trained_length(conf, lambda name: None) is None
    for wrong in ([math.inf, math.inf], [math.nan, -1], [2, 1], [0, 1], ["a", "b"], [1], "x"):
        with pytest.raises(InferenceError, match="trained_length_s: expected two lengths"):
            trained_length({**conf, "trained_length_s": wrong})
    shapes.write_text("utt1 120,80\n")
    assert trained_length(conf) is None
