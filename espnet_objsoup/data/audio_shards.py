# SPDX-License-Identifier: Apache-2.0
"""Writing formatted audio in shards, each with a record that tells what it was made of.

A shard is a folder of files or an archive, `<name>/` or `<name>.ark`, beside its record
`<name>.json`. The record is written last: a shard without one, or with one of other sources, is
not finished. Names depend on what the shard is about, not on how many workers there were.
"""

import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from espnet_objsoup.data.audio_io import ark_entry, info_of, is_pipe, open_audio, read_open
from espnet_objsoup.data.files import replacing, write_bytes

AUDIO_FORMATS = ("flac", "wav", "flac.ark", "wav.ark")


@dataclass(frozen=True)
class AudioFormat:
    """What the dump directory's audio looks like: mono, 16 bit.

    Attributes:
        sample_rate_hz: rate.
        container: `flac` or `wav`; with `.ark`, utterances lie in archives.
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
        if self.channel is not None and self.channel < 0:
            raise ValueError(f"channel: expected a number from 0, found {self.channel}")

    @property
    def archived(self) -> bool:
        """Whether utterances lie in archives."""
        return self.container.endswith(".ark")

    @property
    def encoding(self) -> str:
        """libsndfile's name of the container."""
        return self.container.removesuffix(".ark").upper()


@dataclass(frozen=True)
class Job:
    """One utterance to write: its recording, the part of it, and how much faster it gets."""

    utterance: str
    source: str
    begin_s: float | None = None
    end_s: float | None = None
    speed: float = 1.0


@dataclass(frozen=True)
class Result:
    """Where an utterance's audio lies, and its length; or what is wrong with it."""

    utterance: str
    location: str = ""
    samples: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Shard:
    """Utterances that are written together.

    Attributes:
        directory: where shards lie.
        jobs: the utterances.
        audio_format: how they are written.
        in_use: names of shards that a finished `wav.scp` refers to, which are not overwritten.
        allow_pipes: run commands of `wav.scp`.
    """

    directory: str
    jobs: tuple[Job, ...]
    audio_format: AudioFormat
    in_use: frozenset[str] = frozenset()
    allow_pipes: bool = False

    @property
    def names(self) -> tuple[str, str]:
        """Two names, one of which is free if the other is in use with other sources."""
        parts = [(job.utterance, job.begin_s, job.end_s, job.speed) for job in self.jobs]
        content = json.dumps([asdict(self.audio_format), parts])
        name = hashlib.blake2s(content.encode(), digest_size=6).hexdigest()
        return name, f"{name}b"


def split(jobs: Iterable[Job], n_jobs: int) -> Iterator[tuple[Job, ...]]:
    """Jobs of each shard.

    A shard ends where an utterance's checksum says so, so that one that is added or removed
    changes its own shard and leaves the others as they were.

    Args:
        jobs: in order of their utterances.
        n_jobs: how many there are.
    """
    # Few large shards for large corpora, enough to share out for small ones.
    mean = 32 if n_jobs < 10_000 else 256
    shard: list[Job] = []
    for job in jobs:
        if shard and (zlib.crc32(job.utterance.encode()) % mean == 0 or len(shard) == 4 * mean):
            yield tuple(shard)
            shard = []
        shard.append(job)
    if shard:
        yield tuple(shard)


def write_shard(shard: Shard) -> list[Result]:
    """Write a shard unless it is there already.

    Returns:
        A result per utterance. If one has a problem, the shard counts as unfinished.

    Raises:
        OSError: if a file cannot be written.
    """
    made_of = {
        "format": asdict(shard.audio_format),
        "jobs": [[*asdict(job).values(), _state(job.source)] for job in shard.jobs],
    }
    directory = Path(shard.directory)
    for name in shard.names:
        results = _recorded(directory / f"{name}.json", made_of)
        if results is not None:
            return results
    name = next(name for name in shard.names if name not in shard.in_use)
    record = directory / f"{name}.json"
    record.unlink(missing_ok=True)
    write = _write_archive if shard.audio_format.archived else _write_files
    results = write(shard, directory / name)
    if not any(result.problem for result in results):
        content = {
            **made_of,
            "results": [[r.location, r.samples] for r in results],
            "sizes": {path: os.path.getsize(path) for path in _files(results)},
        }
        write_bytes(record, json.dumps(content, ensure_ascii=False).encode())
    return results


def check_job(job: Job, allow_pipes: bool) -> str:
    """What is wrong with an utterance's audio; nothing if it can be decoded to its end."""
    try:
        with open_audio(job.source, allow_pipes) as sound:
            # Which of several channels is used is decided when audio is formatted.
            read_open(sound, job.begin_s, job.end_s, channel=0)
    except (OSError, ValueError, RuntimeError) as err:
        return _problem(job, err).problem
    return ""


def encode(samples: np.ndarray, audio_format: AudioFormat) -> bytes:
    """A file's content; libsndfile would not report a full disk while it writes one itself."""
    buffer = io.BytesIO()
    rate = audio_format.sample_rate_hz
    soundfile.write(buffer, samples, rate, subtype="PCM_16", format=audio_format.encoding)
    return buffer.getvalue()


def _state(source: str) -> list[int] | None:
    """Size and time of a source, by which a change of it is noticed; None for commands."""
    if is_pipe(source):
        return None
    entry = ark_entry(source)
    try:
        stat = os.stat(source if entry is None else entry[0])
    except OSError:
        return None  # reading it says why
    return [stat.st_size, stat.st_mtime_ns]


def _recorded(record: Path, made_of: dict[str, Any]) -> list[Result] | None:
    """Results of a finished shard; None if it is unfinished, damaged or made of something else."""
    try:
        content = json.loads(record.read_bytes())
        results, sizes = content.pop("results"), content.pop("sizes")
    except (OSError, ValueError, KeyError):
        return None
    if content != made_of:
        return None
    found = [
        Result(job[0], location, samples)
        for job, (location, samples) in zip(made_of["jobs"], results, strict=True)
    ]
    try:
        whole = all(os.path.getsize(path) == size for path, size in sizes.items())
    except OSError:
        return None
    return found if whole and sizes.keys() == _files(found) else None


def _files(results: Iterable[Result]) -> set[str]:
    """The files that hold some utterances."""
    return {(ark_entry(result.location) or (result.location,))[0] for result in results}


def _write_files(shard: Shard, folder: Path) -> list[Result]:
    results = []
    for job in shard.jobs:
        try:
            samples, ready = _read(job, shard)
        except (OSError, ValueError, RuntimeError) as err:
            results.append(_problem(job, err))
            continue
        path = job.source
        if not ready:
            # Distinct ids need distinct names; usual ids are their own names.
            name = job.utterance.replace("%", "%25").replace("/", "%2F")
            path = str(folder / f"{name}.{shard.audio_format.container}")
            folder.mkdir(exist_ok=True)
            write_bytes(Path(path), encode(samples, shard.audio_format))
        results.append(Result(job.utterance, path, len(samples)))
    return results


def _write_archive(shard: Shard, stem: Path) -> list[Result]:
    import kaldiio  # costs a while, and only archives need it

    options = {"format": shard.audio_format.encoding, "subtype": "PCM_16"}
    rate = shard.audio_format.sample_rate_hz
    ark = stem.with_name(f"{stem.name}.ark")
    results = []
    with replacing(ark) as temporary, open(temporary, "wb") as file:
        for job in shard.jobs:
            try:
                samples, _ = _read(job, shard)
            except (OSError, ValueError, RuntimeError) as err:
                results.append(_problem(job, err))
                continue
            offset = file.tell() + len(f"{job.utterance} ".encode())
            # ESPnet gives audio that is framed by "soundfile" in -1 .. 1, Kaldi's own as integers.
            kaldiio.save_ark(
                file,
                {job.utterance: (rate, samples)},
                write_function="soundfile",
                write_kwargs=options,
            )
            results.append(Result(job.utterance, f"{ark}:{offset}", len(samples)))
    return results


def _problem(job: Job, err: Exception) -> Result:
    if isinstance(err, OSError):
        reason = f"expected a readable file, found: {err.strerror or err}; correct wav.scp"
    else:
        reason = str(err)
    return Result(job.utterance, problem=f"{job.utterance}: {job.source}: {reason}")


def _read(job: Job, shard: Shard) -> tuple[np.ndarray, bool]:
    """Samples at the format's rate, and whether the source has the format already."""
    audio_format = shard.audio_format
    with open_audio(job.source, shard.allow_pipes) as sound:
        info = info_of(sound)
        # Decoded even if it is not written again: otherwise damage would show in training.
        samples = read_open(sound, job.begin_s, job.end_s, audio_format.channel)
    ready = (
        job.begin_s is None
        and job.speed == 1.0
        and not is_pipe(job.source)
        and ark_entry(job.source) is None
        and (info.channels, info.sample_rate_hz) == (1, audio_format.sample_rate_hz)
        and (info.container, info.subtype) == (audio_format.encoding, "PCM_16")
    )
    # Played faster by a factor is sampled at a rate higher by that factor.
    rate = info.sample_rate_hz * job.speed
    if rate != audio_format.sample_rate_hz:
        samples = np.clip(soxr.resample(samples, rate, audio_format.sample_rate_hz), -1.0, 1.0)
    if len(samples) == 0:
        raise ValueError("expected audio, found less than a sample; remove the utterance")
    return samples, ready
