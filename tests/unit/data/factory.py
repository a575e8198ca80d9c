# SPDX-License-Identifier: Apache-2.0
"""Small data directories and audio files."""

from pathlib import Path

import numpy as np
import soundfile

from espnet_objsoup.data.corpora.rows import Utterance, to_data_dir
from espnet_objsoup.data.datadir import DataDir


def tone(seconds: float, rate: int, frequency_hz: float = 440.0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


def write_tone(path: Path, seconds: float = 0.5, rate: int = 16000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([tone(seconds, rate)] * channels, axis=1), rate)
    return path


def make_data(audio: Path = Path("x.wav")) -> DataDir:
    """Two French utterances with translation and an English one without."""
    return to_data_dir(
        [
            Utterance("u1", "fr-a", str(audio), "fr", "le chat", {"en": "the cat"}),
            Utterance("u2", "fr-b", str(audio), "fr", "le chien", {"en": "the dog"}),
            Utterance("u3", "en-c", str(audio), "en", "hello"),
        ]
    )
