# SPDX-License-Identifier: Apache-2.0
import errno
import hashlib
import io
import random
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from espnet_objsoup.data.corpora.sources import CORPORA, Archive, missing_common_voice
from espnet_objsoup.data.download import DownloadError, fetch, get_archives, unpack

from .web_server import WebServer, serve

CONTENT = random.Random(0).randbytes(3_000_000)
MD5 = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(WebServer({"/file": CONTENT})) as started:
        yield started


def get(server: WebServer, target: Path, checksum: str = MD5, size: int = len(CONTENT)) -> None:
    fetch(f"{server.url}/file", target, size, checksum, pause_s=0.01)


def ranges(server: WebServer) -> list[str | None]:
    return [wanted for _, _, wanted, _ in server.requests]


def test_a_file_is_there_when_it_is_whole_and_right(server: WebServer, tmp_path: Path) -> None:
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_lost_connection_is_taken_up_where_it_ended(server: WebServer, tmp_path: Path) -> None:
    server.cuts = [1_000_000, 500_000]
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000000-", "bytes=1500000-"]
    assert server.sent == len(CONTENT)


def test_the_next_run_goes_on(server: WebServer, tmp_path: Path) -> None:
    server.cuts = [1_000_000, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"lost 5 times .*1 MB of 3 MB are kept, run again"):
        get(server, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=1000000-"
    assert server.sent == len(CONTENT)


def test_a_busy_server_is_asked_again(server: WebServer, tmp_path: Path) -> None:
    server.statuses = [503, 429, 500]
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize("change", [{"tag": '"2"'}, {"ranges": False}, {"tag": 'W/"1"'}])
def test_another_version_is_not_put_after_the_first(
    server: WebServer, tmp_path: Path, change: dict
) -> None:
    """Nor is a version that cannot be told from others."""
    server.files["/file"] = CONTENT[::-1]
    server.cuts = [1_000_000, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match="lost 5 times"):
        get(server, tmp_path / "x")
    server.files["/file"] = CONTENT
    for name, value in change.items():
        setattr(server, name, value)
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server: WebServer, tmp_path: Path) -> None:
    server.files["/file"] = CONTENT[:-1] + b"?"
    with pytest.raises(DownloadError, match=rf"/file: expected md5 {MD5[4:]}, found [0-9a-f]+;"):
        get(server, tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"?"])
def test_another_size_is_noticed_before_anything_is_written(
    server: WebServer, tmp_path: Path, content: bytes
) -> None:
    server.files["/file"] = content
    with pytest.raises(DownloadError, match=f"expected 3000000 bytes, found {len(content)}"):
        get(server, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_file_that_grew_is_not_continued(server: WebServer, tmp_path: Path) -> None:
    server.cuts = [1_000_000]
    server.files["/file"] = CONTENT
    part = tmp_path / ".x.part"
    part.write_bytes(CONTENT[:10])
    (tmp_path / ".x.part.json").write_text('{"version": "\\"1\\""}')
    server.files["/file"] = CONTENT + b"?"
    with pytest.raises(DownloadError, match="expected 'bytes 10-2999999/3000000', found 'bytes 10"):
        get(server, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_keeps_what_is_there(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / ".x.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"no space left, 3 MB are still to come") as caught:
        get(server, tmp_path / "x")
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "x").exists()


# Archives


def tar_gz(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive_of(server: WebServer, part: str, members: dict[str, bytes]) -> Archive:
    content = tar_gz(members)
    server.files[f"/{part}.tar.gz"] = content
    sha256 = hashlib.sha256(content).hexdigest()
    url = f"{server.url}/{part}.tar.gz"
    return Archive(part, url, f"Corpus/{part}", len(content), f"sha256:{sha256}", 2.0)


@pytest.fixture
def archives(server: WebServer) -> list[Archive]:
    return [
        archive_of(server, part, {"Corpus/README": part.encode(), f"Corpus/{part}/1/a": b"audio"})
        for part in ("dev", "test")
    ]


def files(directory: Path) -> list[str]:
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


def test_archives_of_one_corpus_are_unpacked_into_one_another(
    server: WebServer, archives: list[Archive], tmp_path: Path
) -> None:
    target = tmp_path / "new" / "corpus"
    assert get_archives(archives, target) == [target / "Corpus" / n for n in ("dev", "test")]
    assert files(target) == ["Corpus/README", "Corpus/dev/1/a", "Corpus/test/1/a"]
    asked = len(server.requests)
    assert get_archives(archives, target) == []
    assert len(server.requests) == asked


def test_archives_can_be_kept(archives: list[Archive], tmp_path: Path) -> None:
    get_archives(archives[:1], tmp_path, keep_archives=True)
    assert files(tmp_path) == ["Corpus/README", "Corpus/dev/1/a", "dev.tar.gz"]


def test_an_archive_that_was_put_there_needs_no_connection(
    server: WebServer, archives: list[Archive], tmp_path: Path
) -> None:
    (tmp_path / "dev.tar.gz").write_bytes(server.files["/dev.tar.gz"])
    offline = replace(archives[0], url="http://127.0.0.1:9/dev.tar.gz")
    get_archives([offline], tmp_path)
    assert files(tmp_path) == ["Corpus/README", "Corpus/dev/1/a"]


def test_a_wrong_archive_that_was_put_there_is_not_touched(
    server: WebServer, archives: list[Archive], tmp_path: Path
) -> None:
    (tmp_path / "dev.tar.gz").write_bytes(b"?" * archives[0].size_bytes)
    with pytest.raises(DownloadError, match=r"dev\.tar\.gz: expected sha256 .*, found"):
        get_archives(archives, tmp_path)
    assert files(tmp_path) == ["dev.tar.gz"]


def test_without_connection_nothing_is_written(archives: list[Archive], tmp_path: Path) -> None:
    offline = [replace(a, url=f"http://127.0.0.1:9/{a.name}") for a in archives]
    with pytest.raises(DownloadError, match=r"refused; nothing was written\..*: dev\.tar\.gz test"):
        get_archives(offline, tmp_path / "corpus")
    assert not list(tmp_path.iterdir())


def test_without_the_file_nothing_is_written(
    server: WebServer, archives: list[Archive], tmp_path: Path
) -> None:
    del server.files["/dev.tar.gz"]
    with pytest.raises(DownloadError, match=r"/dev\.tar\.gz: expected the archive, found 404"):
        get_archives(archives, tmp_path / "corpus")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("free", "enough"), [(500, False), (10_000, True)])
def test_space_is_looked_at_first(
    archives: list[Archive],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    enough: bool,
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    target = tmp_path / "corpus"
    if enough:
        get_archives(archives, target)
        assert (target / "Corpus" / "dev").is_dir()
    else:
        with pytest.raises(DownloadError, match=r"of free space, found 500 bytes; nothing was wri"):
            get_archives(archives, target)
        assert not list(tmp_path.iterdir())


def special(kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "members",
    [
        {"../out": b"x"},
        {"a/../../out": b"x"},
        {"/tmp/objsoup-out": b"x"},
        {"a/link": special(tarfile.SYMTYPE, "../../out")},
        {"a/link": special(tarfile.SYMTYPE, "b")},
        {"a/link": special(tarfile.LNKTYPE, "a/file")},
        {"a/device": special(tarfile.CHRTYPE)},
        {"a/pipe": special(tarfile.FIFOTYPE)},
    ],
    ids=["parent", "parent within", "absolute", "link out", "link", "hard link", "device", "pipe"],
)
def test_unusual_members_are_refused(tmp_path: Path, members: dict) -> None:
    directory = tmp_path / "corpus"
    directory.mkdir()
    archive = directory / "x.tar.gz"
    archive.write_bytes(tar_gz({"a/file": b"y", **members}))
    with pytest.raises(DownloadError, match="expected files and directories below its top, found"):
        unpack(archive, directory, "a")
    assert files(tmp_path) == ["corpus/x.tar.gz"]


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_damaged_archive_is_refused(tmp_path: Path, cut: int) -> None:
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(tar_gz({"a/file": CONTENT[:1000]})[:-cut])
    with pytest.raises(DownloadError, match=r"x\.tar\.gz: expected a whole \.tar\.gz, found a dam"):
        unpack(archive, tmp_path, "a")
    assert files(tmp_path) == ["x.tar.gz"]


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(tar_gz({"b/file": b"y"}))
    with pytest.raises(DownloadError, match=r"expected a in it, found b"):
        unpack(archive, tmp_path, "a")
    assert files(tmp_path) == ["x.tar.gz"]


def test_what_was_there_before_stays_unless_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a" / "c").mkdir(parents=True)
    (tmp_path / "a" / "c" / "old").touch()
    (tmp_path / "a" / "README").write_text("old")
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(tar_gz({"a/README": b"new", "a/c/new": b"", "a/b/file": b"", "._a": b""}))
    unpack(archive, tmp_path, "a/b")
    assert files(tmp_path) == ["a/README", "a/b/file", "a/c/new", "a/c/old", "x.tar.gz"]
    assert (tmp_path / "a" / "README").read_text() == "new"


# Corpora


def test_every_archive_has_what_it_takes_to_check_it() -> None:
    counts = {name: len(corpus.archives) for name, corpus in CORPORA.items()}
    assert counts == {"covost2": 36, "librispeech": 7, "aishell": 2}
    lengths = {"md5": 32, "sha256": 64}
    for corpus in CORPORA.values():
        checksums = {archive.checksum for archive in corpus.archives}
        assert len(checksums) == len({a.url for a in corpus.archives}) == len(corpus.archives)
        for archive in corpus.archives:
            algorithm, digest = archive.checksum.split(":")
            assert len(bytes.fromhex(digest)) * 2 == lengths[algorithm]
            assert archive.size_bytes > 0
            assert archive.url.startswith("https://")


def test_directions_may_be_written_in_several_ways() -> None:
    corpus = CORPORA["covost2"]
    for part in ("zh-CN_en", "zh-CN-en", "zh_en", "zh-en"):
        assert [a.part for a in corpus.select([part])] == ["zh-CN_en"]
    assert [a.part for a in corpus.select(["en-sv", "fr-en", "en_sv-SE"])] == ["en_sv-SE", "fr_en"]
    assert [a.part for a in corpus.select([])] == ["fr_en", "de_en", "es_en", "ca_en"]
    with pytest.raises(ValueError, match="expected some of fr_en .* cy_en en_de .*; found fr_de"):
        corpus.select(["fr_en", "fr_de"])


def test_common_voice_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "fr" / "clips").mkdir(parents=True)
    (tmp_path / "fr" / "validated.tsv").touch()
    (tmp_path / "sv-SE" / "clips").mkdir(parents=True)
    assert missing_common_voice(tmp_path, ["fr", "sv"]) == [tmp_path / "sv-SE" / "validated.tsv"]
    (tmp_path / "cv-corpus-4-2019-12-10" / "ca" / "clips").mkdir(parents=True)
    expected = [tmp_path / "cv-corpus-4-2019-12-10" / "ca" / "validated.tsv"]
    assert missing_common_voice(tmp_path, ["ca"]) == expected
