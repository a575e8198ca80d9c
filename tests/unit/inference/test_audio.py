# SPDX-License-Identifier: Apache-2.0
"""Speech as users have it: rates, types, channels, blocks."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from espnet_objsoup.decoding.options import InferenceError
from espnet_objsoup.inference.audio import Source, SourceError, blocks

RATE = 16000


def read(speech: object, rate: int | None = None) -> np.ndarray:
    return np.concatenate(list(blocks(Source("speech", speech, rate), RATE)))


@pytest.fixture
def tone() -> np.ndarray:
    """25 s: more than two blocks."""
    t = np.arange(25 * RATE) / RATE
    return (0.5 * np.sin(2 * np.pi * 300 * t) * np.sin(t)).astype(np.float32)


def test_file_array_and_tensor_are_the_same(tone: np.ndarray, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone, RATE, subtype="FLOAT")
    for speech in (tone, torch.from_numpy(tone), tmp_path / "a.wav", str(tmp_path / "a.wav")):
        found = read(speech)
        assert found.dtype == np.float32
        assert np.array_equal(found, tone)


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint8", "float64", "float16"])
def test_types_are_scaled(dtype: str) -> None:
    wave = np.array([0.0, 0.25, -0.5, 0.75], np.float64)
    given = wave.astype(dtype)
    if dtype.startswith(("int", "uint")):
        half = 2.0 ** (8 * np.dtype(dtype).itemsize - 1)
        given = (wave * half + (half if dtype[0] == "u" else 0)).astype(dtype)
    assert read(given) == pytest.approx(wave)


@pytest.mark.parametrize(
    ("dtype", "message"),
    [("int64", "found int64"), ("uint64", "found uint64"), ("int32", "found none above 32768")],
)
def test_integers_of_another_scale_than_their_types(dtype: str, message: str) -> None:
    """They would be heard as silence."""
    given = np.array([0, 100, 32767, 12000]).astype(dtype)
    for samples in (given, np.stack([given, given])):
        with pytest.raises(InferenceError, match=message) as caught:
            read(samples)
        assert "numpy.int16" in str(caught.value)
    if dtype == "int32":
        assert not read(np.zeros(5, dtype)).any()
        assert read(given * 2).any()


def test_resampling_by_blocks_is_that_of_the_whole(tone: np.ndarray, tmp_path: Path) -> None:
    expected = soxr.resample(tone, 44100, RATE)
    assert np.allclose(read(tone, 44100), expected, atol=1e-5)
    soundfile.write(tmp_path / "a.wav", tone, 44100, subtype="FLOAT")
    assert np.array_equal(read(tmp_path / "a.wav"), read(tone, 44100))
    assert len(read(tone[:8000], 8000)) == RATE


@pytest.mark.parametrize("layout", ["rows", "columns", "integers", "file"])
def test_channels_are_mixed_down(
    tone: np.ndarray, tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture
) -> None:
    both = np.stack([tone, 0.5 * tone], axis=1)
    speech: object = both
    if layout == "rows":
        speech = both.T
    elif layout == "integers":
        speech = (both * 32768).astype(np.int16)
    elif layout == "file":
        speech = tmp_path / "a.wav"
        soundfile.write(speech, both, RATE, subtype="FLOAT")
    assert np.allclose(read(speech), 0.75 * tone, atol=1e-4)
    assert "2 channels are mixed down" in caplog.text


def test_one_channel_needs_no_notice(tone: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    assert np.array_equal(read(tone[:, None]), tone)
    assert not caplog.text


def test_a_long_file_is_read_as_it_is_needed(tone: np.ndarray, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.tile(tone, 4), RATE)
    sizes = [len(block) for block in blocks(Source("a", tmp_path / "a.wav"), RATE)]
    assert sizes == [10 * RATE] * 10


@pytest.mark.parametrize(
    ("speech", "message"),
    [
        (np.zeros(0, np.float32), "found no samples"),
        (np.array([0, np.inf], np.float32), r"NaN or infinity at 0\.000 s"),
        (np.array([3000.0, -20.0]), "samples in -1 .. 1, found 3000; divide by 32768"),
        (np.zeros((100, 100)), r"several utterances are given as a list"),
        (np.zeros(5, complex), "expected samples as numbers, found an array of complex128"),
        (np.array(["a"]), "expected samples as numbers"),
    ],
)
def test_arrays_that_are_no_speech(speech: np.ndarray, message: str) -> None:
    with pytest.raises(SourceError, match=f"^speech: .*{message}"):
        read(speech)


@pytest.mark.parametrize("rate", [0, -1, 16000.5, "16k"])
def test_rates_that_are_none(rate: object) -> None:
    with pytest.raises(InferenceError, match="sample_rate_hz: expected a whole number"):
        read(np.zeros(10), rate)


def test_a_file_that_is_cut_off(tone: np.ndarray, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone, RATE)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match=r"a\.flac: expected .*; replace"):
        list(blocks(Source(str(tmp_path / "a.flac"), tmp_path / "a.flac"), RATE))


def test_types_of_results_need_no_torch() -> None:
    program = (
        "import sys; from espnet_objsoup.inference import Result, InferenceError, SegmentOptions;"
        "assert not {'torch', 'espnet2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
