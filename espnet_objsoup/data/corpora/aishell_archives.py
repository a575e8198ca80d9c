# SPDX-License-Identifier: Apache-2.0
"""Archives of single speakers inside AISHELL-1: `wav/S0002.tar.gz` holds `train/S0002/*.wav`."""

import functools
import json
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from espnet_objsoup.data.corpora.findings import Findings
from espnet_objsoup.data.datadir import DataDirError
from espnet_objsoup.data.download import unpack
from espnet_objsoup.data.files import write_bytes
from espnet_objsoup.data.parallel import map_jobs

_ARCHIVE = re.compile(r"(S\d{4})\.(?:tar\.gz|tgz)")
_SPLITS = ("train", "dev", "test")


def unpack_speakers(
    wav: Path, target: Path, there: Collection[str], n_jobs: int
) -> dict[str, dict[str, Path]]:
    """Unpack the archives of speakers that the corpus has no folder of.

    Beside the folders, `target/<speaker>.json` says which archive one was made of: its path, size
    and time of change. What was made of another archive, or of this one before it was changed, is
    unpacked anew, and speakers without an archive in `wav` are not looked at. A folder appears when
    all of it is there, so an interrupted run goes on with the speakers that have none.

    Args:
        wav: folder with the archives.
        target: gets `<split>/<speaker>/`.
        there: speakers that the corpus has folders of.
        n_jobs: processes.

    Returns:
        Speaker -> split -> folder, of all archives that were unpacked now or before.

    Raises:
        DataDirError: if an archive holds something else than its speaker, or there is a folder that
            was not made by this function.
        DownloadError: if an archive is damaged, or has links or paths outside.
        OSError: if a file cannot be written.
    """
    archives: dict[str, Path] = {}
    for name in sorted(os.listdir(wav)):
        match = _ARCHIVE.fullmatch(name)
        if match is not None and match[1] not in there:
            archives.setdefault(match[1], wav / name)
    if not archives:
        return {}
    _refuse_unknown(archives, target)
    missing = [archive for archive in archives.values() if not _is_unpacked(archive, target)]
    for split in _SPLITS:
        # Before the processes start, so that no two of them make it.
        (target / split).mkdir(parents=True, exist_ok=True)
    work = functools.partial(_unpack_speaker, target=target)
    if missing:
        list(map_jobs(work, missing, n_jobs, "unpack speakers", size_of=os.path.getsize, unit="B"))
    return {speaker: _folders(speaker, target) for speaker in archives}


def _speaker(archive: Path) -> str:
    return archive.name.partition(".")[0]


def _folders(speaker: str, target: Path) -> dict[str, Path]:
    """Split -> folder; one after a whole run."""
    paths = {split: target / split / speaker for split in _SPLITS}
    return {split: path for split, path in paths.items() if path.is_dir()}


def _record(speaker: str, target: Path) -> Path:
    return target / f"{speaker}.json"


def _origin(archive: Path) -> dict[str, str | int]:
    """What tells an archive from another, and from itself before a change."""
    status = archive.stat()
    path = os.path.realpath(archive)
    return {"archive": path, "size_bytes": status.st_size, "changed_ns": status.st_mtime_ns}


def _is_unpacked(archive: Path, target: Path) -> bool:
    speaker = _speaker(archive)
    try:
        recorded = json.loads(_record(speaker, target).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return recorded == _origin(archive) and len(_folders(speaker, target)) == 1


def _refuse_unknown(archives: Collection[str], target: Path) -> None:
    """Folders that nobody knows the origin of are neither used nor deleted."""
    findings = Findings()
    for speaker in archives:
        if not _record(speaker, target).exists():
            findings.problems += [
                f"{folder}: expected a folder that was unpacked here, with {speaker}.json beside "
                "the splits that says of what, found none; remove the folder, or name another "
                "--unpack_dir"
                for folder in _folders(speaker, target).values()
            ]
    findings.raise_problems()


def _unpack_speaker(archive: Path, target: Path) -> None:
    speaker = _speaker(archive)
    scratch = target / f".{speaker}"
    shutil.rmtree(scratch, ignore_errors=True)
    new = scratch / "new"
    new.mkdir(parents=True)
    try:
        # Before the archive is read: a change during that shows in the next run.
        origin = _origin(archive)
        unpack(archive, new, ".", show_progress=False)
        found = sorted(str(path.relative_to(new)) for path in new.glob("*/*"))
        # Which split it is, the archive's name does not say.
        if found not in [[f"{split}/{speaker}"] for split in _SPLITS]:
            raise DataDirError(
                f"{archive}: expected <split>/{speaker}/*.wav with one of {', '.join(_SPLITS)} in "
                f"it, found {', '.join(found[:5]) or 'nothing of that kind'}; it is not unpacked, "
                "fetch the corpus again"
            )
        # In this order no folder ever stands under the record of another archive.
        for split, folder in _folders(speaker, target).items():
            os.replace(folder, scratch / f"old_{split}")
        write_bytes(_record(speaker, target), json.dumps(origin).encode() + b"\n")
        os.replace(new / found[0], target / found[0])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
