# SPDX-License-Identifier: Apache-2.0
"""From sentences to audio files, one speaker at a time."""

import hashlib
import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from espnet_objsoup.data.synthesis.espeak import Espeak
from espnet_objsoup.data.synthesis.voices import Speaker

_FORMATS = {
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".flac": ("FLAC", "PCM_16"),
    ".wav": ("WAV", "PCM_16"),
}


@dataclass(frozen=True)
class Clip:
    """One sentence to be spoken into `path` (relative to the corpus)."""

    text: str
    path: str


@dataclass(frozen=True)
class Shard:
    """All that one speaker says, spoken in one fresh process.

    Attributes:
        root: directory of the corpus.
        lang: language.
        speaker: who speaks.
        clips: in the order in which they are spoken, which decides their exact samples.
        sample_rate_hz: of the files.
        snr_db: range of the signal-to-noise ratio.
    """

    root: str
    lang: str
    speaker: Speaker
    clips: tuple[Clip, ...]
    sample_rate_hz: int
    snr_db: tuple[float, float]

    @property
    def marker(self) -> Path:
        """Exists once the shard is finished; its name depends on everything that is spoken."""
        content = {**asdict(self), "root": ""}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return Path(self.root) / ".shards" / digest[:2] / f"{digest}.json"

    def recorded_seconds(self) -> float | None:
        """Seconds of audio if all of the shard is there, else None."""
        root = Path(self.root)
        if self.marker.exists() and all((root / clip.path).exists() for clip in self.clips):
            return json.loads(self.marker.read_text())["seconds"]
        return None


def record_shard(shard: Shard) -> float:
    """Write the shard's files; call it in a fresh process.

    Returns:
        Seconds of audio in the shard.

    Raises:
        SynthesiserError: if a sentence cannot be spoken.
    """
    marker = shard.marker
    espeak = Espeak()
    seconds = 0.0
    for clip in shard.clips:
        samples = _record(espeak, shard, clip)
        _write(Path(shard.root) / clip.path, samples, shard.sample_rate_hz)
        seconds += len(samples) / shard.sample_rate_hz
    marker.parent.mkdir(parents=True, exist_ok=True)
    temporary = marker.with_suffix(".tmp")
    temporary.write_text(json.dumps({"seconds": seconds}))
    os.replace(temporary, marker)
    return seconds


def _record(espeak: Espeak, shard: Shard, clip: Clip) -> np.ndarray:
    draw = np.random.default_rng(zlib.crc32(clip.path.encode()))
    speaker = shard.speaker
    spoken = espeak.synthesise(
        clip.text,
        shard.lang,
        speaker.variant,
        rate_wpm=round(speaker.rate_wpm * draw.uniform(0.95, 1.05)),
        pitch=int(np.clip(speaker.pitch + draw.integers(-5, 6), 0, 99)),
        pitch_range=speaker.pitch_range,
    )
    clean = _trim(spoken.astype(np.float32) / 32768.0, espeak.sample_rate_hz)
    audio = soxr.resample(clean, espeak.sample_rate_hz, shard.sample_rate_hz)
    return _add_noise(audio, draw, shard.snr_db)


def _trim(audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Leave 50 ms of silence before and 100 ms after the speech."""
    loud = np.flatnonzero(np.abs(audio) > 1e-3)
    begin = max(0, loud[0] - sample_rate_hz // 20)
    return audio[begin : loud[-1] + sample_rate_hz // 10]


def _add_noise(
    audio: np.ndarray, draw: np.random.Generator, snr_db: tuple[float, float]
) -> np.ndarray:
    noise = draw.standard_normal(len(audio)).astype(np.float32)
    if draw.random() < 0.5:
        noise = np.convolve(noise, np.full(5, 0.2, np.float32), "same")  # low-passed
    ratio = 10.0 ** (draw.uniform(*snr_db) / 10.0)
    noise *= np.sqrt(np.mean(audio**2) / np.mean(noise**2) / ratio)
    gain = 10.0 ** (draw.uniform(-8.0, 0.0) / 20.0)
    return np.clip(gain * (audio + noise), -1.0, 1.0).astype(np.float32)


def _write(path: Path, samples: np.ndarray, sample_rate_hz: int) -> None:
    container, subtype = _FORMATS[path.suffix]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    soundfile.write(temporary, samples, sample_rate_hz, format=container, subtype=subtype)
    os.replace(temporary, path)
