# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from espnet_objsoup.report.series import ReportError
from espnet_objsoup.report.statistics import read_statistics

from .made_run import add_values


def write(directory: Path, name: str, *values: tuple[int, dict[str, float]]) -> Path:
    """Write an event file whose name sorts as `name`."""
    writer = EventFileWriter(str(directory), filename_suffix=f".{name}")
    for step, of_step in values:
        add_values(writer, step, of_step)
    writer.close()
    (path,) = directory.glob(f"*.{name}")
    return path.rename(directory / f"events.{name}")


def test_means_of_epochs_are_no_intervals(tmp_path: Path) -> None:
    write(
        tmp_path / "train", "1",
        (50, {"loss": 4.0}), (100, {"loss": 3.0}), (100, {"iter_epoch": 1}), (100, {"loss": 3.5}),
        (150, {"loss": 2.0}),
    )  # fmt: skip
    write(tmp_path / "valid", "1", (100, {"loss": 3.7, "soup_weight/asr/fr": 1.0}))
    found = read_statistics(tmp_path)
    assert found.train["loss"].steps.tolist() == [50, 100, 150]
    assert found.train["loss"].values.tolist() == [4.0, 3.0, 2.0]
    assert found.train_epochs["loss"].values.tolist() == [3.5]
    assert found.valid["loss"].values.tolist() == pytest.approx([3.7])
    assert found.epochs == 1
    assert set(found.valid) == {"loss"}  # soup.jsonl has the others
    assert found.last_write_s == 1.7e9 + 150


def test_a_resumed_training_replaces_what_it_repeats(tmp_path: Path) -> None:
    write(
        tmp_path / "train", "1",
        (50, {"loss": 4.0}), (50, {"iter_epoch": 1}), (50, {"loss": 4.5}), (100, {"loss": 3.0}),
        (100, {"iter_epoch": 2}), (100, {"loss": 3.5}),
    )  # fmt: skip
    write(tmp_path / "train", "2", (75, {"loss": 2.0}), (100, {"loss": 1.0}))
    found = read_statistics(tmp_path)
    assert found.train["loss"].steps.tolist() == [50, 75, 100]
    assert found.train["loss"].values.tolist() == [4.0, 2.0, 1.0]
    assert found.train_epochs["loss"].values.tolist() == [4.5]


def test_an_event_that_is_being_written(tmp_path: Path) -> None:
    path = write(tmp_path / "train", "1", (50, {"loss": 4.0}), (100, {"loss": 3.0}))
    content = path.read_bytes()
    for cut in (1, 10, 25):
        path.write_bytes(content[:-cut])
        assert read_statistics(tmp_path).train["loss"].values.tolist() == [4.0]


def test_something_else(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    path = tmp_path / "train" / "events.1"
    path.write_bytes(bytes([8]) + bytes(11) + b"\xff" * 12)
    with pytest.raises(ReportError, match=r"events.1: expected events of TensorBoard"):
        read_statistics(tmp_path)


def test_none(tmp_path: Path) -> None:
    assert read_statistics(tmp_path / "tensorboard") is None
    write(tmp_path / "train", "1")
    assert read_statistics(tmp_path) is None
