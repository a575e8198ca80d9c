# SPDX-License-Identifier: Apache-2.0
"""Files of weights that would run a program, or are something else: found without loading them."""

import collections
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from espnet_objsoup.zoo.pickles import check_weights

from .packages import TAG, package, refused, save_weights, write_zip

WEIGHTS = f"exp/{TAG}/model.pth"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Entries of an archive that is fine."""
    path = save_weights(tmp_path_factory.mktemp("weights") / "model.pth")
    return package(path.read_bytes())


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_weights_that_run_a_program(good: dict[str, bytes], tmp_path: Path, protocol: int) -> None:
    content = io.BytesIO()
    torch.save({"w": _Evil(tmp_path / "ran")}, content, pickle_protocol=protocol)
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
        (_two_pickles, "with one data.pkl"),
        (_grows, "bytes when unpacked"),
    ],
)
def test_weights_in_other_forms(
    good: dict[str, bytes], tmp_path: Path, make: Callable[[], bytes], message: str
) -> None:
    path = write_zip(tmp_path / "m.zip", *({**good, WEIGHTS: make()}).items())
    assert message in refused(path, tmp_path)


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
