# SPDX-License-Identifier: Apache-2.0
"""Archives from the web: fetched with resume, checked, unpacked safely, whole or not at all."""

import errno
import gzip
import hashlib
import json
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from humanfriendly import format_size
from tqdm import tqdm

from espnet_objsoup.data.corpora.sources import Archive

_CHUNK = 1 << 20
_TIMEOUT_S = (20, 60)  # to connect, between two packets
_TRIES = 5


class DownloadError(RuntimeError):
    """What was expected of a server or an archive, and what was found."""


def get_archives(
    archives: Sequence[Archive],
    directory: Path,
    keep_archives: bool = False,
    pause_s: float = 1.0,
) -> list[Path]:
    """Fetch and unpack archives that are not there yet.

    An archive that lies in `directory` already is used; what an interrupted run has fetched is
    gone on with.

    Args:
        archives: what to get.
        directory: of the corpus.
        keep_archives: do not delete them after unpacking.
        pause_s: first wait before a lost connection is tried again; it doubles each time.

    Returns:
        Paths that are new.

    Raises:
        DownloadError: if there is no connection or too little space (nothing has been written
            then), or an archive is not what it should be.
        OSError: if a file cannot be written.
    """
    missing = [archive for archive in archives if not (directory / archive.holds).exists()]
    absent = [archive for archive in missing if not (directory / archive.name).exists()]
    if absent:
        _check_connection(absent, directory)
    _check_space(missing, directory, keep_archives)
    for archive in missing:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / archive.name
        if path.exists():
            verify(path, archive.size_bytes, archive.checksum)
        else:
            fetch(archive.url, path, archive.size_bytes, archive.checksum, pause_s)
        unpack(path, directory, archive.holds)
        if not keep_archives:
            path.unlink()
    return [directory / archive.holds for archive in missing]


def fetch(url: str, target: Path, size_bytes: int, checksum: str, pause_s: float = 1.0) -> None:
    """Download a file; `target` appears when it is complete and its checksum is right.

    What has arrived is kept beside it, and the next call goes on from there if the server still has
    the same file.

    Args:
        url: address, http or https.
        target: the file.
        size_bytes: that it must have.
        checksum: `md5:...` or `sha256:...`.
        pause_s: first wait before a lost connection is tried again.

    Raises:
        DownloadError: if the server refuses, has another file, or cannot be reached repeatedly.
        OSError: if the file cannot be written.
    """
    part = target.with_name(f".{target.name}.part")
    failures = 0
    with tqdm(
        total=size_bytes, desc=target.name, unit="B", unit_scale=True, mininterval=1.0
    ) as progress:
        while _size(part) < size_bytes:
            before = _size(part)
            try:
                _continue(url, part, size_bytes, progress)
            except _Lost as err:
                failures = failures + 1 if _size(part) <= before else 1
                if failures == _TRIES:
                    raise DownloadError(
                        f"{url}: the connection was lost {_TRIES} times ({err}); "
                        f"{format_size(_size(part))} of {format_size(size_bytes)} are kept, run "
                        "again to go on"
                    ) from err
                time.sleep(pause_s * 2 ** (failures - 1))
    try:
        verify(part, size_bytes, checksum, name=url)
    except DownloadError:
        _forget(part)
        raise
    os.replace(part, target)
    _validator(part).unlink(missing_ok=True)


def verify(path: Path, size_bytes: int, checksum: str, name: str | None = None) -> None:
    """Check size and checksum of a file.

    Raises:
        DownloadError: if one differs.
    """
    name = name or str(path)
    advice = "fetch it again; if that repeats, the publisher has changed it: see docs/scale_out.md"
    if path.stat().st_size != size_bytes:
        raise DownloadError(
            f"{name}: expected {size_bytes} bytes, found {path.stat().st_size}; {advice}"
        )
    algorithm, _, expected = checksum.partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with (
        open(path, "rb") as file,
        tqdm(total=size_bytes, desc=f"{algorithm} {path.name}", unit="B", unit_scale=True) as bar,
    ):
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != expected:
        raise DownloadError(
            f"{name}: expected {algorithm} {expected}, found {digest.hexdigest()}; {advice}"
        )


def unpack(archive: Path, directory: Path, holds: str, show_progress: bool = True) -> None:
    """Unpack a tar archive; `directory`/`holds` appears when all of it is there.

    Args:
        archive: .tar.gz.
        directory: where its content goes, beside what is there already.
        holds: path in the archive that must be there.
        show_progress: show a bar.

    Raises:
        DownloadError: if the archive is damaged, lacks `holds`, or has members that are neither
            files nor directories or lie outside it.
        OSError: if a file cannot be written.
    """
    temporary = directory / f".{archive.name}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _extract(archive, temporary, show_progress)
        if not (temporary / holds).exists():
            found = ", ".join(sorted(path.name for path in temporary.iterdir())[:10])
            raise DownloadError(f"{archive}: expected {holds} in it, found {found or 'nothing'}")
        _move_into(temporary, directory, PurePosixPath(holds).parts)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(archive: Path, target: Path, show_progress: bool) -> None:
    target.mkdir()
    size = archive.stat().st_size
    with (
        open(archive, "rb") as file,
        tqdm(
            total=size,
            desc=f"unpack {archive.name}",
            unit="B",
            unit_scale=True,
            disable=not show_progress,
        ) as progress,
    ):
        try:
            # tarfile's own decompression stops before the checksum at the end.
            with gzip.open(file) as content, tarfile.open(fileobj=content, mode="r|") as tar:
                for member in tar:
                    _check_member(archive, member)
                    # macOS' tar puts attributes into files of their own.
                    if not PurePosixPath(member.name).name.startswith("._"):
                        tar.extract(member, target, filter="data")
                    progress.update(file.tell() - progress.n)
                while content.read(_CHUNK):
                    pass
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as err:
            raise DownloadError(
                f"{archive}: expected a whole .tar.gz, found a damaged one ({err}); remove it and "
                "fetch it again"
            ) from err


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    usual = member.isreg() or member.isdir()
    if path.is_absolute() or ".." in path.parts or not usual:
        kind = "" if usual else ", a link or device"
        raise DownloadError(
            f"{archive}: expected files and directories below its top, found "
            f"{member.name!r}{kind}; it is not unpacked"
        )


def _move_into(source: Path, target: Path, last: Sequence[str]) -> None:
    """Move the content of a directory beside what is in another; the path `last` comes last."""
    head, rest = (last[0], last[1:]) if last else ("", ())
    for path in sorted(source.iterdir(), key=lambda path: (path.name == head, path.name)):
        if path.is_dir() and (target / path.name).is_dir():
            _move_into(path, target / path.name, rest if path.name == head else ())
        else:
            os.replace(path, target / path.name)


class _Lost(Exception):
    """A connection that ended early; trying again may help."""


def _continue(url: str, part: Path, size_bytes: int, progress: tqdm) -> None:
    """Append to `part` what the server sends of the rest."""
    import requests
    import urllib3

    begin, headers = _resume_point(part)
    try:
        # As it is on the server: some declare .gz as an encoding, which would be undone on the way.
        headers["Accept-Encoding"] = "identity"
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
            begin = _begin_of(response, url, part, begin, size_bytes)
            progress.update(begin - progress.n)
            with open(part, "ab" if begin else "wb") as file:
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    _write(file, chunk, part, size_bytes)
                    progress.update(len(chunk))
    except (requests.RequestException, urllib3.exceptions.HTTPError) as err:
        raise _Lost(_reason(err)) from err
    if _size(part) > size_bytes:
        _forget(part)
        raise DownloadError(f"{url}: expected {size_bytes} bytes, found more; {_CHANGED}")


_CHANGED = "the publisher has changed the file: see docs/scale_out.md"


def _begin_of(response: Any, url: str, part: Path, begin: int, size_bytes: int) -> int:
    """Where the answer begins in the file; also notes which version of the file it is."""
    status = response.status_code
    if status == 206:
        expected = f"bytes {begin}-{size_bytes - 1}/{size_bytes}"
        found = response.headers.get("Content-Range", "")
        if found.replace("/*", f"/{size_bytes}") != expected:
            _forget(part)
            raise DownloadError(f"{url}: expected {expected!r}, found {found!r}; {_CHANGED}")
        return begin
    if status == 416 or status >= 500 or status == 429:
        if status == 416:  # the file there is shorter than what has arrived
            _forget(part)
        raise _Lost(f"{status} {response.reason}")
    if status != 200:
        raise DownloadError(_refusal(response, url))
    length = response.headers.get("Content-Length")
    if length is not None and int(length) != size_bytes:
        raise DownloadError(f"{url}: expected {size_bytes} bytes, found {length}; {_CHANGED}")
    tag = response.headers.get("ETag", "")
    version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    _validator(part).write_text(json.dumps({"version": version}), encoding="utf-8")
    return 0


def _refusal(response: Any, url: str) -> str:
    return (
        f"{url}: expected the archive, found {response.status_code} {response.reason}; see the "
        "page that describes the corpus for its present address, and use it by --mirror"
    )


def _resume_point(part: Path) -> tuple[int, dict[str, str]]:
    """How much is there, and headers that ask for the rest of the same file."""
    begin = _size(part)
    try:
        version = json.loads(_validator(part).read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError):
        version = None
    if not begin or not version:
        return 0, {}
    return begin, {"Range": f"bytes={begin}-", "If-Range": version}


def _write(file: Any, chunk: bytes, part: Path, size_bytes: int) -> None:
    try:
        file.write(chunk)
        file.flush()
    except OSError as err:
        if err.errno != errno.ENOSPC:
            raise
        rest = format_size(max(0, size_bytes - _size(part)))
        reason = f"no space left, {rest} are still to come; make room and run again to go on"
        raise OSError(err.errno, reason, str(part)) from err


def _check_connection(archives: Sequence[Archive], directory: Path) -> None:
    import requests

    url = archives[0].url
    try:
        answer = requests.head(url, allow_redirects=True, timeout=_TIMEOUT_S)
        if answer.status_code in (404, 410):
            raise DownloadError(_refusal(answer, url))
    except requests.RequestException as err:
        names = " ".join(archive.name for archive in archives)
        raise DownloadError(
            f"{url}: expected to reach it, found {_reason(err)}; nothing was written. Either mend "
            "the connection (https_proxy is heeded), or fetch the files elsewhere, put them into "
            f"{directory} and run this again, which then checks and unpacks them: {names}"
        ) from err


def _check_space(archives: Sequence[Archive], directory: Path, keep_archives: bool) -> None:
    """Refuse to begin what cannot end: all that is unpacked, and archives as long as they stay."""
    if not archives:
        return
    sizes = [archive.size_bytes for archive in archives]
    needed = sum(archive.size_bytes * archive.unpacked_ratio for archive in archives)
    needed += sum(sizes) if keep_archives else max(sizes)
    for archive in archives:
        path = directory / archive.name
        needed -= _size(path) + _size(path.with_name(f".{path.name}.part"))
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DownloadError(
            f"{directory}: expected about {format_size(max(0, needed))} of free space, found "
            f"{format_size(free)}; nothing was written. Choose another directory, or fewer --parts"
        )


def _reason(err: BaseException) -> str:
    """The innermost message: libraries wrap them several times."""
    while (inner := err.__cause__ or err.__context__) is not None:
        err = inner
    return f"{type(err).__name__}: {err}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _validator(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)
