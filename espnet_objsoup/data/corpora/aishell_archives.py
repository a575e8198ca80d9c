# SPDX-License-Identifier: Apache-2.0
"""Archives of single speakers inside AISHELL-1: `wav/S0002.tar.gz` holds `train/S0002/*.wav`."""

import functools
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from espnet_objsoup.data.datadir import DataDirError
from espnet_objsoup.data.download import unpack
from espnet_objsoup.data.parallel import map_jobs

_ARCHIVE = re.compile(r"(S\d{4})\.(?:tar\.gz|tgz)")
_SPLITS = ("train", "dev", "test")


def unpack_speakers(wav: Path, target: Path, there: Collection[str], n_jobs: int) -> int:
    """Unpack the archives of speakers that have no folder yet.

    A speaker's folder appears when all of it is there, so an interrupted run goes on with the
    speakers that have none.

    Args:
        wav: folder with the archives.
        target: gets `<split>/<speaker>/`.
        there: speakers that the corpus has folders of.
        n_jobs: processes.

    Returns:
        Number of archives that were unpacked.

    Raises:
        DataDirError: if an archive holds something else than its speaker.
        DownloadError: if one is damaged, or has links or paths outside.
        OSError: if a file cannot be written.
    """
    matches = [(_ARCHIVE.fullmatch(name), wav / name) for name in sorted(os.listdir(wav))]
    missing = [
        path
        for match, path in matches
        if match is not None
        and match[1] not in there
        and not any((target / split / match[1]).is_dir() for split in _SPLITS)
    ]
    if not missing:
        return 0
    for split in _SPLITS:
        # Before the processes start, so that no two of them make it.
        (target / split).mkdir(parents=True, exist_ok=True)
    work = functools.partial(_unpack_speaker, target=target)
    done = map_jobs(work, missing, n_jobs, "unpack speakers", size_of=os.path.getsize, unit="B")
    return sum(1 for _ in done)


def _unpack_speaker(archive: Path, target: Path) -> None:
    speaker = archive.name.partition(".")[0]
    scratch = target / f".{speaker}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        unpack(archive, scratch, ".", show_progress=False)
        found = sorted(str(path.relative_to(scratch)) for path in scratch.glob("*/*"))
        # Which split it is, the archive's name does not say.
        if found not in [[f"{split}/{speaker}"] for split in _SPLITS]:
            raise DataDirError(
                f"{archive}: expected <split>/{speaker}/*.wav with one of {', '.join(_SPLITS)} in "
                f"it, found {', '.join(found[:5]) or 'nothing of that kind'}; it is not unpacked, "
                "fetch the corpus again"
            )
        os.replace(scratch / found[0], target / found[0])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
