# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_objsoup.data.audio import AudioFormat, format_audio
from espnet_objsoup.data.datadir import DataDirError
from espnet_objsoup.data.selection import perturb_speed

from .factory import make_data, tone, write_tone


@pytest.mark.parametrize(("suffix", "rate"), [("mp3", 48000), ("ogg", 44100), ("wav", 8000)])
def test_any_format_and_rate_becomes_mono_flac(tmp_path: Path, suffix: str, rate: int) -> None:
    data = make_data(write_tone(tmp_path / f"in.{suffix}", 0.5, rate))
    result = format_audio(data, tmp_path / "out", AudioFormat(16000), n_jobs=1)
    path = Path(result.columns["wav.scp"]["fr-a-u1"])
    info = soundfile.info(path)
    assert (info.format, info.subtype, info.samplerate, info.channels) == (
        "FLAC",
        "PCM_16",
        16000,
        1,
    )
    samples, _ = soundfile.read(path)
    assert result.columns["utt2num_samples"]["fr-a-u1"] == str(len(samples))
    assert abs(len(samples) - 8000) <= 2
    middle = samples[2000:6000]
    # Lossy formats delay a little: compare the spectrum's peak and the level.
    peak = np.argmax(np.abs(np.fft.rfft(middle))) * 16000 / len(middle)
    assert abs(peak - 440) <= 4
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_audio_that_fits_is_used_where_it_lies(tmp_path: Path) -> None:
    source = tmp_path / "in.flac"
    soundfile.write(source, tone(0.5, 16000), 16000, subtype="PCM_16")
    result = format_audio(make_data(source), tmp_path / "out", AudioFormat(16000), n_jobs=1)
    assert set(result.columns["wav.scp"].values()) == {str(source)}


def test_segments_and_speed_are_applied(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "in.wav", 2.0)
    data = make_data(source)
    data.columns["wav.scp"] = {"r": str(source)}
    data.columns["segments"] = {u: f"r 0.5 {0.9 + 0.2 * i}" for i, u in enumerate(data.utterances)}
    result = format_audio(perturb_speed(data, [0.8, 1.0]), tmp_path / "out", AudioFormat(), 1)
    samples = {k: int(v) for k, v in result.columns["utt2num_samples"].items()}
    assert samples["en-c-u3"] == 6400
    assert samples["sp0.8-en-c-u3"] == pytest.approx(8000, abs=2)
    assert "segments" not in result.columns
    assert "utt2speed" not in result.columns
    assert result.columns["utt2spk"]["sp0.8-fr-a-u1"] == "sp0.8-fr-a"


def test_all_unusable_recordings_are_reported(tmp_path: Path) -> None:
    data = make_data(write_tone(tmp_path / "ok.wav"))
    (tmp_path / "text.mp3").write_text("not audio")
    data.columns["wav.scp"]["fr-a-u1"] = str(tmp_path / "text.mp3")
    data.columns["wav.scp"]["fr-b-u2"] = str(tmp_path / "absent.wav")
    with pytest.raises(DataDirError, match="2 of 3") as error:
        format_audio(data, tmp_path / "out", AudioFormat(), n_jobs=1)
    assert "fr-a-u1" in str(error.value)
    assert "fr-b-u2" in str(error.value)


def test_several_channels_need_a_choice(tmp_path: Path) -> None:
    data = make_data(write_tone(tmp_path / "stereo.wav", channels=2))
    with pytest.raises(DataDirError, match="--channel"):
        format_audio(data, tmp_path / "a", AudioFormat(), n_jobs=1)
    result = format_audio(data, tmp_path / "b", AudioFormat(channel=1), n_jobs=1)
    assert result.columns["utt2num_samples"]["en-c-u3"] == "8000"


def test_interrupted_run_goes_on_and_another_format_starts_afresh(tmp_path: Path) -> None:
    data = make_data(write_tone(tmp_path / "in.wav", rate=8000))
    out = tmp_path / "out"
    first = format_audio(data, out, AudioFormat(16000), n_jobs=1)
    path = Path(first.columns["wav.scp"]["en-c-u3"])
    before = path.stat().st_mtime_ns
    format_audio(data, out, AudioFormat(16000), n_jobs=2)
    assert path.stat().st_mtime_ns == before
    again = format_audio(data, out, AudioFormat(8000, "wav"), n_jobs=1)
    assert not path.exists()
    assert soundfile.info(again.columns["wav.scp"]["fr-a-u1"]).samplerate == 8000


def test_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="flac or wav"):
        AudioFormat(16000, "mp3")
