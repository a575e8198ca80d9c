# SPDX-License-Identifier: Apache-2.0
"""Archives that are damaged, or made to do harm: nothing is written outside, nothing is loaded."""

import re
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from espnet_objsoup.zoo.archive import Limits, unpack
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.pretrained import find_model

from .packages import TAG, entry, refused, write, write_zip

BASE = f"exp/{TAG}"
WEIGHTS = f"{BASE}/model.pth"
Entries = list[tuple[str | zipfile.ZipInfo, bytes]]


def test_a_good_archive_is_unpacked(good: dict[str, bytes], tmp_path: Path) -> None:
    meta = unpack(write_zip(tmp_path / "m.zip", *good.items()), tmp_path / "out")
    assert meta.files["objsoup_model_file"] == WEIGHTS
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert {name for name in found if (tmp_path / "out" / name).is_file()} == set(good)
    assert all((tmp_path / "out" / name).read_bytes() == good[name] for name in good)


BAD_NAMES = {
    "absolute": ("/etc/evil", "absolute"),
    "parent": ("../evil", r"\.\."),
    "parent within": ("exp/../../evil", r"\.\."),
    "drive": ("C:/evil", "without control characters"),
    "drive relative": ("c:evil", "without control characters"),
    "backslash": ("..\\evil", "without control characters"),
    "share": ("//host/share/evil", "absolute"),
    "stream": ("README.md:evil", "without control characters"),
    "newline": ("a\nb", "without control characters"),
    "NUL": ("a\0b", "without control characters"),
    "escape": ("a\x1b[2Jb", "without control characters"),
    "empty part": ("exp//evil", "plain name"),
    "dot": ("./evil", "plain name"),
    "long": ("a" * 1001, "plain name"),
    "device": ("exp/NUL.txt", "every system"),
    "trailing dot": ("exp/evil.", "every system"),
    "trailing space": ("exp/evil /x", "every system"),
    "same name": ("README.md", "once"),
    "other case": ("readme.MD", "one file on some systems"),
    "other case of a directory's file": (f"EXP/{TAG}/MODEL.pth", "one file on some systems"),
    "other form of Unicode": ("Cafe\u0301.md", "one file on some systems"),
    "file in a file": ("README.md/evil", "a file with"),
}


@pytest.mark.parametrize("case", BAD_NAMES)
def test_names_that_leave_the_directory_or_clash(
    good: dict[str, bytes], tmp_path: Path, case: str
) -> None:
    name, message = BAD_NAMES[case]
    extra: Entries = [("README.md", b"#"), ("Caf\u00e9.md", b""), (entry(name), b"evil")]
    with pytest.warns(UserWarning, match="Duplicate name") if case == "same name" else _nothing():
        path = write_zip(tmp_path / "m.zip", *good.items(), *extra)
    assert re.search(message, refused(path, tmp_path))


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (stat.S_IFLNK | 0o777, "found a link or a device"),
        (stat.S_IFCHR | 0o666, "found a link or a device"),
        (stat.S_IFIFO | 0o666, "found a link or a device"),
        (stat.S_IFDIR | 0o755, "found content"),
    ],
)
def test_links_and_devices(good: dict[str, bytes], tmp_path: Path, mode: int, message: str) -> None:
    path = write_zip(tmp_path / "m.zip", *good.items(), (entry("link", mode), b"/etc/passwd"))
    assert message in refused(path, tmp_path)


def test_a_link_that_lies_in_the_target_is_not_followed(
    good: dict[str, bytes], tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "m.zip", *good.items())
    victim = write(tmp_path / "victim", "old")
    (tmp_path / "out" / BASE).mkdir(parents=True)
    (tmp_path / "out" / WEIGHTS).symlink_to(victim)
    with pytest.raises(ModelError):
        unpack(path, tmp_path / "out")
    assert victim.read_text() == "old"


def test_bombs(good: dict[str, bytes], tmp_path: Path) -> None:
    zeros = entry("zeros", compression=zipfile.ZIP_DEFLATED)
    path = write_zip(tmp_path / "m.zip", *good.items(), (zeros, bytes(10_000_000)))
    message = refused(path, tmp_path)
    assert "expected ratio of at most 50" in message
    assert "OBJSOUP_UNPACK_LIMITS=ratio=" in message


@pytest.mark.parametrize(
    ("limits", "message"),
    [("gb=0.000001", "expected gb of at most 1e-06"), ("entries=3", "found 5 entries")],
)
def test_limits_of_size_and_number(
    good: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limits: str,
    message: str,
) -> None:
    monkeypatch.setenv("OBJSOUP_UNPACK_LIMITS", limits)
    assert message in refused(write_zip(tmp_path / "m.zip", *good.items()), tmp_path)


def test_the_variable_that_a_message_names_helps(
    good: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = entry("zeros", compression=zipfile.ZIP_DEFLATED)
    path = write_zip(tmp_path / "m.zip", *good.items(), (zeros, bytes(10_000_000)))
    advice = re.search(r"OBJSOUP_UNPACK_LIMITS=(\S+)", refused(path, tmp_path))
    monkeypatch.setenv("OBJSOUP_UNPACK_LIMITS", advice[1])
    unpack(path, tmp_path / "out")


@pytest.mark.parametrize("value", ["big", "gb", "gb=-1", "gb=x", "size=3", "gb=nan"])
def test_limits_that_are_none(
    good: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("OBJSOUP_UNPACK_LIMITS", value)
    with pytest.raises(ModelError, match="expected numbers above 0 such as"):
        Limits.of_environment()


def test_sizes_that_an_entry_lies_about(good: dict[str, bytes], tmp_path: Path) -> None:
    """The head says 10 bytes, the content is a megabyte: no more than said may be written."""
    path = write_zip(
        tmp_path / "m.zip",
        *good.items(),
        (entry("zeros", compression=zipfile.ZIP_DEFLATED), b"\1" * 1_000_000),
    )
    content = path.read_bytes()
    assert content.count((1_000_000).to_bytes(4, "little")) == 2
    path.write_bytes(content.replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    assert "damaged or foreign" in refused(path, tmp_path)
    assert (tmp_path / "cache/deep/target/zeros").stat().st_size <= 10


def test_entries_that_overlap(good: dict[str, bytes], tmp_path: Path) -> None:
    """Many names for one content, as in archives that grow without compression."""
    path = write_zip(tmp_path / "m.zip", *good.items(), ("one", b"x" * 100), ("two", b"x" * 100))
    with zipfile.ZipFile(path, "a") as archive:
        archive.getinfo("two").header_offset = archive.getinfo("one").header_offset
        archive._didModify = True
    assert "damaged or foreign" in refused(path, tmp_path)


# Damage


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _no_end(content: bytes) -> bytes:
    return content[:-10]


def _flip(content: bytes) -> bytes:
    at = content.index(b"statistics") + 2
    return content[:at] + b"X" + content[at + 1 :]


@pytest.mark.parametrize(
    "damage", [_cut, _no_end, _flip, lambda _: b"", lambda _: b"PK\3\4", lambda _: b"text"]
)
def test_damaged_archives(
    good: dict[str, bytes], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = write_zip(tmp_path / "m.zip", *good.items())
    path.write_bytes(damage(path.read_bytes()))
    assert "expected a zip archive, found a damaged or foreign file" in refused(path, tmp_path)


@pytest.mark.parametrize("every", [1, 7])
def test_no_cut_archive_passes(good: dict[str, bytes], tmp_path: Path, every: int) -> None:
    """Whatever of an archive is lost, the message is one for users."""
    content = write_zip(tmp_path / "m.zip", *good.items()).read_bytes()
    for i, length in enumerate(range(every, len(content), len(content) // 40)):
        cut = write(tmp_path / "cut.zip", content[:length])
        with pytest.raises(ModelError):
            unpack(cut, tmp_path / f"out{i}")


def test_unusual_compression_and_passwords(good: dict[str, bytes], tmp_path: Path) -> None:
    odd = entry("odd", compression=zipfile.ZIP_LZMA)
    path = write_zip(tmp_path / "m.zip", *good.items(), (odd, b"x"))
    assert "expected entries stored or deflated" in refused(path, tmp_path)
    path = write_zip(tmp_path / "p.zip", *good.items())
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    assert "expected no password" in refused(path, tmp_path)


# Descriptions


def _meta(good: dict[str, bytes], **changes: object) -> bytes:
    values = yaml.safe_load(good["meta.yaml"]) | changes
    return yaml.safe_dump(values).encode()


BAD_META = {
    "none": (None, "found none among its 4 entries"),
    "no YAML": (b"a: [", "expected YAML"),
    "binary": (b"\xff\xfe\0", "expected YAML"),
    "list": (b"[1]", "expected keys and values"),
    "empty": (b"", "expected keys and values"),
    "object": (b"!!python/object/apply:os.system ['false']", "expected YAML"),
    "no files": ({"files": None}, "files: expected names of files"),
    "another task": ({"files": {"asr_model_file": "m"}}, "by that task's own command"),
    "absolute": ({"files": {"objsoup_model_file": "/etc/passwd"}}, "within the model's directory"),
    "outside": ({"files": {"objsoup_model_file": "../m.pth"}}, "within the model's directory"),
    "number": ({"files": {"objsoup_model_file": 3}}, "within the model's directory"),
    "missing": ({"files": {"objsoup_model_file": "x.pth"}}, "which it lacks"),
    "time": ({"timestamp": "now"}, "timestamp: expected seconds"),
    "time without end": ({"timestamp": 10**400}, "timestamp: expected seconds"),
    "time that is none": ({"timestamp": float("nan")}, "timestamp: expected seconds"),
    "version": ({"objsoup": {"version": "9.0.0"}}, "made by espnet_objsoup 9.0.0"),
    "facts": ({"objsoup": [1]}, "objsoup: expected keys and values"),
    "large": (b"a" * (5 << 20), "at most"),
}


@pytest.mark.parametrize("case", BAD_META)
def test_descriptions(good: dict[str, bytes], tmp_path: Path, case: str) -> None:
    content, message = BAD_META[case]
    if isinstance(content, dict):
        content = _meta(good, **content)
    others = {name: data for name, data in good.items() if name != "meta.yaml"}
    entries: Entries = [*others.items()]
    if content is not None:
        entries.append(("meta.yaml", content))
    assert message in refused(write_zip(tmp_path / "m.zip", *entries), tmp_path)


def test_aliases_of_aliases(good: dict[str, bytes], tmp_path: Path) -> None:
    """A few lines of YAML that are 10^12 values when they are walked through."""
    lines = ["x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 12)]
    config = good[f"{BASE}/config.yaml"].decode() + "\n".join(lines)
    entries = {**good, f"{BASE}/config.yaml": config.encode()}
    with pytest.raises(ModelError, match="aliases of aliases"):
        find_model(write_zip(tmp_path / "m.zip", *entries.items()), tmp_path / "cache")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bpemodel": "/etc/passwd"}, "bpemodel: expected a file, found none at /etc/passwd"),
        ({"bpemodel": "../../../secret"}, "bpemodel: expected a file, found none"),
        ({"normalize_conf": {"stats_file": "data"}}, "stats_file: expected a file"),
        ({"encoder_conf": {"hubert_url": "https://evil/x.pt"}}, "no file and no address"),
        ({"frontend_conf": {"ckpt": f"{BASE}/feats_stats.npz"}}, "no file and no address"),
        ({"frontend_conf": {"a": [{"dir": f"exp/{TAG}"}]}}, "no file and no address"),
    ],
)
def test_configurations_that_name_other_files(
    good: dict[str, bytes], tmp_path: Path, change: dict, message: str
) -> None:
    write(tmp_path / "secret", "x")
    conf = yaml.safe_load(good[f"{BASE}/config.yaml"]) | change
    entries = {**good, f"{BASE}/config.yaml": yaml.safe_dump(conf).encode()}
    with pytest.raises(ModelError, match=message):
        find_model(write_zip(tmp_path / "m.zip", *entries.items()), tmp_path / "cache")


def test_an_archive_within_that_grows(good: dict[str, bytes], tmp_path: Path) -> None:
    inner = entry("en.model", compression=zipfile.ZIP_DEFLATED)
    bomb = write_zip(tmp_path / "bpe.model", (inner, bytes(10_000_000))).read_bytes()
    entries = {**good, "data/token_list/bpe/bpe.model": bomb}
    with pytest.raises(ModelError, match="bpe.model: expected ratio of at most"):
        find_model(write_zip(tmp_path / "m.zip", *entries.items()), tmp_path / "cache")


def test_an_archive_within_that_is_damaged(good: dict[str, bytes], tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "bpe.model", ("en.model", b"x")).read_bytes()
    damaged = inner.replace(b"PK\1\2", b"PK\1\7")
    entries = {**good, "data/token_list/bpe/bpe.model": damaged}
    with pytest.raises(ModelError, match="bpe.model: expected a whole archive"):
        find_model(write_zip(tmp_path / "m.zip", *entries.items()), tmp_path / "cache")
