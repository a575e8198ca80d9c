# SPDX-License-Identifier: Apache-2.0
"""How fast stage 3 formats audio, beside the libraries that it uses.

One process formats made-up speech with format_audio and with nothing but soundfile's decoder, soxr
and soundfile's encoder. Both are measured in CPU time, in turns, on the same files; the ratio tells
how much of the libraries' speed is left. Files that have the format already are decoded by both and
written by neither.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio import AudioFormat, format_audio
from espnet_objsoup.data.corpora.rows import Utterance, to_data_dir
from espnet_objsoup.data.datadir import DataDir

TARGET_RATE_HZ = 16000


@dataclass(frozen=True)
class Case:
    """Sources of one kind, and what they become."""

    name: str
    suffix: str
    rate_hz: int
    channels: int
    audio_format: str = "flac"

    @property
    def ready(self) -> bool:
        """Whether the sources have the target's format already."""
        return (self.suffix, self.rate_hz, self.channels) == (
            self.audio_format,
            TARGET_RATE_HZ,
            1,
        )


CASES = (
    Case("mp3 48 kHz mono -> flac", "mp3", 48000, 1),
    Case("mp3 48 kHz stereo -> flac", "mp3", 48000, 2),
    Case("wav 16 kHz -> flac", "wav", 16000, 1),
    Case("wav 44.1 kHz -> flac", "wav", 44100, 1),
    Case("wav 16 kHz -> flac.ark", "wav", 16000, 1, "flac.ark"),
    Case("flac 16 kHz -> flac (kept)", "flac", 16000, 1),
)


@dataclass(frozen=True)
class Row:
    """Hours of speech per minute of one core; the best of all rounds."""

    case: str
    format_audio_h_per_min: float
    limit_h_per_min: float

    @property
    def ratio(self) -> float:
        """How much of the limit is reached."""
        return self.format_audio_h_per_min / self.limit_h_per_min


def make_sources(case: Case, directory: Path, n: int, seconds: float) -> list[Path]:
    """Noise in syllables, which costs coders about as much as speech."""
    generator = np.random.default_rng(0)
    time_s = np.arange(round(seconds * case.rate_hz)) / case.rate_hz
    paths = []
    for i in range(n):
        loudness = np.abs(np.sin(2 * np.pi * (2 + i % 3) * time_s))
        voice = np.sign(np.sin(2 * np.pi * (100 + 10 * i) * time_s)) * 0.1
        noise = generator.standard_normal(len(time_s)) * 0.02
        samples = np.stack([loudness * (voice + noise)] * case.channels, axis=1)
        path = directory / f"{i}.{case.suffix}"
        soundfile.write(path, samples, case.rate_hz)
        paths.append(path)
    return paths


def limit(case: Case, sources: Sequence[Path], out: Path) -> None:
    """The libraries alone."""
    for i, source in enumerate(sources):
        samples, rate = soundfile.read(source, dtype="float32")
        if case.ready:
            continue
        mono = samples if samples.ndim == 1 else samples[:, 0]
        if rate != TARGET_RATE_HZ:
            mono = soxr.resample(mono, rate, TARGET_RATE_HZ)
        soundfile.write(out / f"{i}.flac", mono, TARGET_RATE_HZ, subtype="PCM_16")


def formatted(case: Case, data: DataDir, out: Path) -> None:
    """What stage 3 does, tables included."""
    audio_format = AudioFormat(TARGET_RATE_HZ, case.audio_format, 0)
    datadir.write(format_audio(data, out, audio_format, n_jobs=1), out)


def cpu_seconds(work: Callable[[Path], None]) -> float:
    """CPU time of `work` in an empty directory."""
    with tempfile.TemporaryDirectory() as out:
        start = time.process_time()
        work(Path(out))
        return time.process_time() - start


def measure(case: Case, n: int, seconds: float, rounds: int) -> Row:
    """Both ways in turns."""
    with tempfile.TemporaryDirectory() as directory:
        sources = make_sources(case, Path(directory), n, seconds)
        data = to_data_dir(
            Utterance(f"u{i:05d}", "s", str(path), "en", "a b c") for i, path in enumerate(sources)
        )
        ours, bare = [], []
        for _ in range(rounds + 1):
            bare.append(cpu_seconds(lambda out: limit(case, sources, out)))
            ours.append(cpu_seconds(lambda out: formatted(case, data, out)))
    speech_min = n * seconds / 60
    # The first round loads libraries and files.
    return Row(case.name, speech_min / min(ours[1:]), speech_min / min(bare[1:]))


def get_parser() -> argparse.ArgumentParser:
    """Parser of this benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100, help="files of each kind")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a file")
    parser.add_argument("--rounds", type=int, default=3, help="the best round counts")
    parser.add_argument("--goal", type=float, help="exit with 1 if a ratio is smaller")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table; returns 1 if the goal is missed."""
    args = get_parser().parse_args(argv)
    rows = [measure(case, args.files, args.seconds, args.rounds) for case in CASES]
    print(f"{'hours of speech per core-minute':32}{'format_audio':>14}{'limit':>10}{'ratio':>8}")
    for row in rows:
        figures = f"{row.format_audio_h_per_min:14.2f}{row.limit_h_per_min:10.2f}{row.ratio:8.2f}"
        print(f"{row.case:32}{figures}")
    if args.json is not None:
        content = [{**asdict(row), "ratio": row.ratio} for row in rows]
        args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return int(args.goal is not None and min(row.ratio for row in rows) < args.goal)


if __name__ == "__main__":
    sys.exit(main())
