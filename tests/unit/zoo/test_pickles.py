# SPDX-License-Identifier: Apache-2.0
"""Files of weights that would run a program, or are something else: found without loading them."""

import collections
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.pickles import check_weights

from ..hostile_pickle import MakesDirectory
from .packages import TAG, refused, save_weights, write_zip

WEIGHTS = f"exp/{TAG}/model.pth"


@pytest.mark.parametrize("protocol", [2, 4])
def test_weights_that_run_a_program(good: dict[str, bytes], tmp_path: Path, protocol: int) -> None:
    content = io.BytesIO()
    torch.save({"w": MakesDirectory(tmp_path / "ran")}, content, pickle_protocol=protocol)
    path = write_zip(tmp_path / "m.zip", *({**good, WEIGHTS: content.getvalue()}).items())
    message = refused(path, tmp_path)
    assert "do not load it" in message
    assert ("posix.mkdir" if protocol == 2 else "STACK_GLOBAL") in message
    assert not (tmp_path / "ran").exists()
    torch.load(io.BytesIO(content.getvalue()), weights_only=False)  # it would have
    assert (tmp_path / "ran").exists()


def _old_format() -> bytes:
    content = io.BytesIO()
    torch.save({"w": torch.ones(2)}, content, _use_new_zipfile_serialization=False)
    return content.getvalue()


def _two_pickles() -> bytes:
    content = io.BytesIO()
    torch.save({"w": torch.ones(2)}, content)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("archive/more.pkl", pickle.dumps({}))
    return content.getvalue()


def _grows() -> bytes:
    content = io.BytesIO()
    torch.save({"w": torch.ones(2)}, content)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/9", bytes(1_000_000))
    return content.getvalue()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_old_format, "a zip archive"),
        (lambda: pickle.dumps({}), "a zip archive"),
        (lambda: b"", "a zip archive"),
        (_two_pickles, "'more.pkl', which torch.save does not write"),
        (_grows, "an entry that is compressed"),
    ],
)
def test_weights_in_other_forms(
    good: dict[str, bytes], tmp_path: Path, make: Callable[[], bytes], message: str
) -> None:
    path = write_zip(tmp_path / "m.zip", *({**good, WEIGHTS: make()}).items())
    assert message in refused(path, tmp_path)


def _records() -> dict[str, bytes]:
    """What torch.save writes, by name."""
    content = io.BytesIO()
    torch.save({"w": torch.ones(2)}, content)
    with zipfile.ZipFile(content) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(records: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, record in records.items():
            archive.writestr(zipfile.ZipInfo(name), record)
    return content.getvalue()


def _old_format_first(evil: MakesDirectory) -> bytes:
    """torch looks at the first bytes, others at the last ones."""
    content = io.BytesIO()
    torch.save({"w": evil}, content, _use_new_zipfile_serialization=False)
    return content.getvalue() + _zipped(_records())


def _other_case(evil: MakesDirectory) -> bytes:
    """torch's look-up has no regard for case."""
    records = _records()
    good = records.pop("archive/data.pkl")
    first = {"archive/DATA.PKL": pickle.dumps({"w": evil}, protocol=2)}
    return _zipped({**first, "archive/zz/data.pkl": good, **records})


def _two_directories(evil: MakesDirectory) -> bytes:
    """Python adds what stands before an archive to the places that its records say."""
    records = _records()
    good = _zipped(records)
    # Without tensors it is short enough to lie where the good one lies.
    hidden = _zipped({**records, "archive/data.pkl": pickle.dumps({"w": evil}, protocol=2)})
    end = good.rindex(b"PK\x05\x06")
    size, begin = struct.unpack("<2L", good[end + 12 : end + 20])
    hidden_end = hidden.rindex(b"PK\x05\x06")
    hidden_size, hidden_begin = struct.unpack("<2L", hidden[hidden_end + 12 : hidden_end + 20])
    assert hidden_size == size
    gap = bytes(begin - hidden_begin)
    return hidden[:hidden_begin] + gap + hidden[hidden_begin:hidden_end] + good


@pytest.mark.parametrize("make", [_old_format_first, _other_case, _two_directories])
def test_what_torch_reads_is_what_is_checked(
    tmp_path: Path, make: Callable[[MakesDirectory], bytes]
) -> None:
    """Files that other readers of zip archives take for harmless."""
    path = tmp_path / "w.pth"
    path.write_bytes(make(MakesDirectory(tmp_path / "ran")))
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
        assert b"mkdir" not in archive.read(name)
    with pytest.raises(ModelError, match=r"expected weights as torch.save writes them"):
        check_weights(path)
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists()  # it would have


def _changed(content: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """An archive with some bytes of its last record of a kind replaced."""
    at = content.rindex(signature) + offset
    return content[:at] + value + content[at + len(value) :]


_CENTRAL, _LOCAL, _END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda good: b"x" + good, "does not begin as an archive"),
        (lambda good: good + b"x", "no end record at its end"),
        (lambda good: good[:-30], "no end record at its end"),
        (lambda good: b"PK\x03\x04", "too short"),
        (lambda good: _changed(good, _END, 20, b"\1\0") + b"x", "no end record at its end"),
        (lambda good: _changed(good, _END, 4, b"\1\0"), "does not write"),
        (lambda good: _changed(good, _END, 8, b"\1\0"), "does not write"),
        (lambda good: _changed(good, _END, 16, b"\1\0\0\0"), "directory is not where"),
        (lambda good: _changed(good, _CENTRAL, 10, b"\x08"), "compressed or encrypted"),
        (lambda good: _changed(good, _CENTRAL, 8, b"\1"), "compressed or encrypted"),
        (lambda good: _changed(good, _CENTRAL, 20, b"\0\0\0\0"), "two sizes"),
        (lambda good: _changed(good, _CENTRAL, 30, b"\1\0"), "field of an entry|not write"),
        (lambda good: _changed(good, _CENTRAL, 42, b"\1\0\0\0"), "entry without a head|overlap"),
        (lambda good: _changed(good, _LOCAL, 30, b"X"), "head differs from the directory"),
        (lambda good: _changed(good, _LOCAL, 8, b"\x08"), "head differs from the directory"),
    ],
)
def test_archives_that_torch_would_not_write(
    tmp_path: Path, make: Callable[[bytes], bytes], message: str
) -> None:
    good = _zipped(_records())
    path = tmp_path / "w.pth"
    path.write_bytes(good)
    check_weights(path)
    path.write_bytes(make(good))
    with pytest.raises(ModelError, match=message):
        check_weights(path)


@pytest.mark.parametrize(
    "names",
    [
        ["archive/constants.pkl"],  # makes torch run a program
        ["other/version"],
        ["version"],
        ["archive/code/x.py"],
        ["archive/Version"],
        ["archive/data.pkl"],
        ["archive/data.pkl\0x"],
        ["archive/sub/data.pkl"],
        ["archive\\data.pkl"],
        ["archive/d\u0430ta.pkl"],
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_records_that_torch_would_not_write(tmp_path: Path, names: list[str]) -> None:
    content = io.BytesIO(_zipped(_records()))
    with zipfile.ZipFile(content, "a") as archive:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, b"x")
    path = tmp_path / "w.pth"
    path.write_bytes(content.getvalue())
    with pytest.raises(ModelError, match=r"expected weights as torch.save writes them"):
        check_weights(path)


@pytest.mark.parametrize("name", ["x.pkl", "exp/other.pth", "y.PT", "z.joblib", "model.ckpt"])
def test_other_files_that_programs_unpickle(
    good: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    path = write_zip(tmp_path / "m.zip", *good.items(), (name, b"x"))
    assert "expected one file of weights" in refused(path, tmp_path)


def test_all_that_a_model_holds_is_allowed(tmp_path: Path) -> None:
    kinds = (
        torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
        torch.int16, torch.int8, torch.uint8, torch.bool,
    )  # fmt: skip
    state = collections.OrderedDict((str(kind), torch.zeros(3, dtype=kind)) for kind in kinds)
    state["parameter"] = torch.nn.Parameter(torch.ones(2))
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    for weights in (state, module.state_dict()):
        check_weights(save_weights(tmp_path / "w.pth", weights))
