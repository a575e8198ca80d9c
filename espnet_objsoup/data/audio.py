# SPDX-License-Identifier: Apache-2.0
"""Audio of any common format, resampled and written into a dump directory."""

import functools
import logging
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from espnet_objsoup.data.audio_io import ark_entry
from espnet_objsoup.data.audio_shards import (
    AUDIO_FORMATS,
    AudioFormat,
    Job,
    Shard,
    check_job,
    split,
    write_shard,
)
from espnet_objsoup.data.datadir import DataDir, DataDirError, listing
from espnet_objsoup.data.parallel import StartClient, map_jobs

__all__ = ["AUDIO_FORMATS", "AudioFormat", "check_audio", "format_audio", "remove_unused_audio"]


def format_audio(
    data: DataDir,
    directory: Path,
    audio_format: AudioFormat,
    n_jobs: int,
    allow_pipes: bool = False,
    start_client: StartClient | None = None,
    max_damaged: float = 0.0,
) -> DataDir:
    """Write every utterance's audio under `directory`/audio.

    Utterances of one and the same audio (a clip with several translations) share what is written.
    `segments` and `utt2speed` are applied and no longer in the result. A source file that already
    has the format is used where it lies. What an interrupted run has finished is used again if its
    sources are the same. Audio that `directory`/wav.scp refers to is not touched, so that the
    directory holds its old content until the result is written over it.

    Args:
        data: what to write.
        directory: dump directory.
        audio_format: how to write it.
        n_jobs: worker processes; the result does not depend on them.
        allow_pipes: run commands in `wav.scp`.
        start_client: makes a dask client for a number of workers; without it they are local.
        max_damaged: share of the utterances whose audio may be unusable. They are left out; a
            warning lists them.

    Returns:
        The data with new `wav.scp` and `utt2num_samples`.

    Raises:
        DataDirError: listing all recordings that cannot be used, if they are more than that.
        OSError: if a file cannot be written.
    """
    audio = directory / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    in_use = _shards_in_use(directory)
    distinct, first_with = _distinct(_jobs(data))
    shards = [
        Shard(str(audio), jobs, audio_format, in_use, allow_pipes)
        for jobs in split(distinct, len(distinct))
    ]
    written = map_jobs(
        write_shard,
        shards,
        n_jobs,
        f"format audio {directory.name}",
        size_of=lambda shard: len(shard.jobs),
        unit="utt",
        start_client=start_client,
        name_of=lambda shard: f"{shard.jobs[0].utterance} to {shard.jobs[-1].utterance}",
    )
    results = {result.utterance: result for shard in written for result in shard}
    problems = {
        utterance: utterance + results[first].problem.removeprefix(first)
        for utterance, first in first_with.items()
        if results[first].problem
    }
    _judge(problems, len(first_with), max_damaged)
    columns = {k: v for k, v in data.columns.items() if k not in ("segments", "utt2speed")}
    columns |= {"wav.scp": {}, "utt2num_samples": {}}
    for utterance, first in first_with.items():
        columns["wav.scp"][utterance] = results[first].location
        columns["utt2num_samples"][utterance] = str(results[first].samples)
    made = DataDir(columns)
    return made.subset(lambda utterance: utterance not in problems) if problems else made


def _judge(problems: Mapping[str, str], n_utterances: int, max_damaged: float) -> None:
    """Warn of utterances with unusable audio, or refuse them."""
    if len(problems) > max_damaged * n_utterances:
        raise DataDirError(
            f"{len(problems)} of {n_utterances} utterances have unusable audio; mend or replace "
            "these files and run again, what is done is kept; or leave them out by --max_damaged "
            f"{_rounded_up(len(problems) / n_utterances):g}. Where data directories change "
            "instead (an utterance removed by hand, a corpus prepared anew), the recipe goes on "
            f"from stage 2 or from --stage 1 --force true:\n{listing(list(problems.values()))}"
        )
    if problems:
        logging.warning(
            "left out: %d of %d utterances, whose audio is unusable:\n%s",
            *(len(problems), n_utterances, listing(list(problems.values()))),
        )


def _rounded_up(share: float) -> float:
    """To two digits, never less than it was."""
    digits = 1 - math.floor(math.log10(share))
    return min(1.0, math.ceil(share * 10**digits) / 10**digits)


def check_audio(data: DataDir, n_jobs: int, allow_pipes: bool = False) -> list[str]:
    """Decode all audio of a data directory; returns a message for each unusable utterance."""
    jobs = list(_jobs(data))
    check = functools.partial(check_job, allow_pipes=allow_pipes)
    return [
        problem for problem in map_jobs(check, jobs, n_jobs, "check audio", unit="utt") if problem
    ]


def remove_unused_audio(directory: Path) -> None:
    """Delete audio of earlier runs that `directory`/wav.scp does not refer to any more."""
    used = _shards_in_use(directory)
    for path in (directory / "audio").iterdir():
        name = path.name.removesuffix(".ark")
        if name in used or path.suffix == ".json":
            continue
        # The record first: audio without one is not taken for finished.
        path.with_name(f"{name}.json").unlink(missing_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _jobs(data: DataDir) -> Iterator[Job]:
    segments = data.columns.get("segments")
    speeds = data.columns.get("utt2speed", {})
    recordings = data.columns["wav.scp"]
    for utterance in data.utterances:
        speed = float(speeds.get(utterance, 1.0))
        if segments is None:
            yield Job(utterance, recordings[utterance], speed=speed)
        else:
            recording, begin, end = segments[utterance].split()
            yield Job(utterance, recordings[recording], float(begin), float(end), speed)


def _distinct(jobs: Iterable[Job]) -> tuple[list[Job], dict[str, str]]:
    """A job for each piece of audio; utterance -> the utterance of the job that it shares."""
    distinct, first_with = [], {}
    known: dict[tuple, str] = {}
    for job in jobs:
        audio = (job.source, job.begin_s, job.end_s, job.speed)
        first_with[job.utterance] = known.setdefault(audio, job.utterance)
        if first_with[job.utterance] == job.utterance:
            distinct.append(job)
    return distinct, first_with


def _shards_in_use(directory: Path) -> frozenset[str]:
    """Names of shards in `directory`/audio that its `wav.scp` refers to."""
    wav_scp = directory / "wav.scp"
    if not wav_scp.exists():
        return frozenset()
    containers = set()
    with open(wav_scp, encoding="utf-8") as file:
        for line in file:
            location = line.rstrip().partition(" ")[2]
            entry = ark_entry(location)
            containers.add(os.path.dirname(location) if entry is None else entry[0])
    audio = os.path.realpath(directory / "audio")
    found = [os.path.split(os.path.realpath(container)) for container in containers]
    return frozenset(name.removesuffix(".ark") for parent, name in found if parent == audio)
