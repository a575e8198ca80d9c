# SPDX-License-Identifier: Apache-2.0
"""Reading audio of any common format, resampling, and writing it into a dump directory."""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from espnet_objsoup.data.datadir import DataDir, DataDirError
from espnet_objsoup.data.parallel import map_jobs

AUDIO_FORMATS = ("flac", "wav")


@dataclass(frozen=True)
class AudioFormat:
    """What the dump directory's audio looks like: mono, 16 bit.

    Attributes:
        sample_rate_hz: rate.
        container: `flac` or `wav`.
        channel: which channel of a recording with several, from 0; None: such recordings are
            errors.
    """

    sample_rate_hz: int = 16000
    container: str = "flac"
    channel: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a format that cannot be written."""
        if self.container not in AUDIO_FORMATS:
            raise ValueError(
                f"audio_format: expected {' or '.join(AUDIO_FORMATS)}, found {self.container!r}"
            )
        if self.sample_rate_hz < 1000:
            raise ValueError(f"fs: expected a rate in Hz, found {self.sample_rate_hz}")


@dataclass(frozen=True)
class _Job:
    utterance: str
    source: str
    target: str
    begin_s: float | None
    end_s: float | None
    speed: float
    audio_format: AudioFormat


@dataclass(frozen=True)
class _Result:
    utterance: str
    path: str = ""
    samples: int = 0
    problem: str = ""


def format_audio(data: DataDir, directory: Path, audio_format: AudioFormat, n_jobs: int) -> DataDir:
    """Write every utterance's audio under `directory`/audio.

    `segments` and `utt2speed` are applied and no longer in the result. A source file that already
    has the format is used where it lies. Files of an interrupted run are used again if they are
    newer than their source.

    Returns:
        The data with new `wav.scp` and `utt2num_samples`.

    Raises:
        DataDirError: listing all recordings that cannot be used.
    """
    _forget_other_format(directory, audio_format)
    jobs = list(_jobs(data, directory, audio_format))
    for parent in {Path(job.target).parent for job in jobs}:
        parent.mkdir(parents=True, exist_ok=True)
    results = list(map_jobs(_format_one, jobs, n_jobs, f"format audio {directory.name}"))
    problems = [result.problem for result in results if result.problem]
    if problems:
        shown = "\n".join(problems[:50])
        raise DataDirError(
            f"{len(problems)} of {len(jobs)} utterances have unusable audio; mend or remove them:\n"
            f"{shown}"
        )
    columns = {k: v for k, v in data.columns.items() if k not in ("segments", "utt2speed")}
    columns["wav.scp"] = {result.utterance: result.path for result in results}
    columns["utt2num_samples"] = {result.utterance: str(result.samples) for result in results}
    return DataDir(columns)


def _forget_other_format(directory: Path, audio_format: AudioFormat) -> None:
    """Remove audio of another format that an earlier run left behind."""
    marker = directory / "audio" / "format.json"
    wanted = json.dumps(asdict(audio_format), sort_keys=True)
    if marker.exists() and marker.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(directory / "audio", ignore_errors=True)
    marker.parent.mkdir(parents=True)
    marker.write_text(wanted, encoding="utf-8")


def _jobs(data: DataDir, directory: Path, audio_format: AudioFormat) -> Iterable[_Job]:
    segments = data.columns.get("segments", {})
    speeds = data.columns.get("utt2speed", {})
    for i, utterance in enumerate(data.utterances):
        recording, begin_s, end_s = utterance, None, None
        if segments:
            recording, begin, end = segments[utterance].split()
            begin_s, end_s = float(begin), float(end)
        # Thousands of files in one folder are slow on network file systems.
        name = f"{utterance.replace('/', '_')}.{audio_format.container}"
        yield _Job(
            utterance=utterance,
            source=data.columns["wav.scp"][recording],
            target=str(directory / "audio" / f"{i // 1000:04d}" / name),
            begin_s=begin_s,
            end_s=end_s,
            speed=float(speeds.get(utterance, 1.0)),
            audio_format=audio_format,
        )


def _format_one(job: _Job) -> _Result:
    try:
        info = soundfile.info(job.source)
        if _is_ready(job, info):
            return _Result(job.utterance, job.source, info.frames)
        if _is_current(job):
            return _Result(job.utterance, job.target, soundfile.info(job.target).frames)
        samples = _read(job, info)
    except (OSError, soundfile.LibsndfileError, ValueError) as err:
        return _Result(job.utterance, problem=f"{job.utterance}: {job.source}: {err}")
    temporary = job.target + ".tmp"
    container = job.audio_format.container.upper()
    rate = job.audio_format.sample_rate_hz
    soundfile.write(temporary, samples, rate, subtype="PCM_16", format=container)
    os.replace(temporary, job.target)
    return _Result(job.utterance, job.target, len(samples))


def _is_ready(job: _Job, info: soundfile._SoundFileInfo) -> bool:
    audio_format = job.audio_format
    return (
        job.begin_s is None
        and job.speed == 1.0
        and info.channels == 1
        and info.samplerate == audio_format.sample_rate_hz
        and info.format == audio_format.container.upper()
        and info.subtype == "PCM_16"
    )


def _is_current(job: _Job) -> bool:
    target = Path(job.target)
    return target.exists() and target.stat().st_mtime >= Path(job.source).stat().st_mtime


def _read(job: _Job, info: soundfile._SoundFileInfo) -> np.ndarray:
    begin = 0 if job.begin_s is None else round(job.begin_s * info.samplerate)
    end = None if job.end_s is None else round(job.end_s * info.samplerate)
    if end is not None and begin >= info.frames:
        raise ValueError(
            f"segment begins at {job.begin_s} s, but the recording ends at "
            f"{info.frames / info.samplerate:.2f} s"
        )
    audio, rate = soundfile.read(job.source, start=begin, stop=end, dtype="float32", always_2d=True)
    if len(audio) == 0:
        raise ValueError("expected audio, found no samples")
    channel = job.audio_format.channel
    if channel is None and audio.shape[1] > 1:
        raise ValueError(
            f"expected one channel, found {audio.shape[1]}; choose one with --channel 0"
        )
    if (channel or 0) >= audio.shape[1]:
        raise ValueError(f"channel {channel}: the recording has {audio.shape[1]}")
    mono = audio[:, channel or 0]
    # Played faster by a factor is sampled at a rate higher by that factor.
    return np.clip(
        soxr.resample(mono, rate * job.speed, job.audio_format.sample_rate_hz), -1.0, 1.0
    )
