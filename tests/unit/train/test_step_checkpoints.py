# SPDX-License-Identifier: Apache-2.0
"""Entering an epoch in its middle: batches, augmentation, random numbers, statistics."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.train.reporter import SubReporter
from torch.utils.data import DataLoader, Dataset

from espnet_objsoup.train import checkpoints as names
from espnet_objsoup.train.batch_position import describe_batches, skip_batches
from espnet_objsoup.train.iterators import LanguageIterFactory
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from espnet_objsoup.train.options import SoupConf, TrainerConfError
from espnet_objsoup.train.random_state import get_random_state, set_random_state
from espnet_objsoup.train.step_checkpoints import load_statistics, statistics_of

from .interrupted import Killed, Noisy, dies, soup
from .test_checkpoint_files import load
from .toy import ToyData, parameters, run


def test_other_batches_go_on_at_the_same_share(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = soup("flat")
    with pytest.raises(Killed):
        run(dies(4), tmp_path, max_epoch=1, **changes)
    counting = dies(1000)
    run(counting, tmp_path, max_epoch=1, data=ToyData(12), **changes)
    assert counting.count == 12 - 8
    assert "6 batches each, now there are 1 with 12" in caplog.text
    assert "(8 instead of 4)" in caplog.text


def test_accumulation_that_changed_goes_back_to_the_step_s_beginning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Killed):
        run(dies(4), tmp_path, max_epoch=1, **soup("flat", interval=4))
    counting = dies(1000)
    run(counting, tmp_path, max_epoch=1, accum_grad=3, **soup("flat"))
    assert counting.count == 6 - 3
    assert "1 batches earlier" in caplog.text


def test_reset_soup_inside_an_epoch(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(dies(4), tmp_path, max_epoch=2, **soup("flat"))
    run(ObjSoupTrainer, tmp_path, max_epoch=2, **soup("bilevel", reset_soup=True))
    assert load(tmp_path / names.EPOCH)["reporter"]["epoch"] == 2


def test_tensorboard_hides_what_is_written_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    changes = {**soup("flat"), "use_tensorboard": True, "log_interval": 1}
    with pytest.raises(Killed):
        run(dies(4), tmp_path, max_epoch=1, **changes)  # killed after batch 5, saved after 4
    run(ObjSoupTrainer, tmp_path, max_epoch=1, **changes)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "train"))
    events.Reload()
    steps = [event.step for event in events.Scalars("grad_norm")]
    assert [step for step in steps if step < 6] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("value", [-1, 1.5, True, None])
def test_interval_is_checked(value: object) -> None:
    with pytest.raises(TrainerConfError, match=r"checkpoint_interval_steps: expected a whole"):
        SoupConf.from_dict({"checkpoint_interval_steps": value})


def test_random_states_survive_a_file(tmp_path: Path) -> None:
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    np.random.randn()  # NumPy keeps the second of a pair
    torch.save(get_random_state(cuda=False), tmp_path / "x.pth")

    def draw() -> tuple:
        return random.random(), np.random.randn(), np.random.rand(), torch.rand(2).tolist()

    expected = draw()
    set_random_state(load(tmp_path / "x.pth"))
    assert draw() == expected


def test_statistics_survive_a_file(tmp_path: Path) -> None:
    reporter = SubReporter("train", 1, 10)
    for i in range(4):
        reporter.register({"loss": torch.tensor(0.1 * i)}, weight=torch.tensor(i + 1))
        reporter.register({"seconds": float(i)})
        if i > 1:
            reporter.register({"late": i})
        reporter.next()
    torch.save(statistics_of(reporter), tmp_path / "x.pth")
    other = SubReporter("train", 1, 0)
    load_statistics(other, load(tmp_path / "x.pth"))
    assert other.get_total_count() == reporter.get_total_count() == 14
    assert other.log_message() == reporter.log_message() != ""
    for both in (reporter, other):
        both.register({"loss": 1.0}, weight=2.0)
        both.next()
    assert other.log_message() == reporter.log_message()


class OnDisk(AbsIterFactory):
    """ESPnet's kind of iterator: augmentation from NumPy's generator, in workers or not."""

    def __init__(self, num_workers: int, ours: bool) -> None:
        keys = [f"u{i}" for i in range(18)]
        conf = {
            "dataset": Augmented(keys),
            "batches": [keys[i : i + 3] for i in range(0, 18, 3)],
            "seed": 5,
            "shuffle": True,
            "num_workers": num_workers,
            "collate_fn": collate,
        }
        self.factory = (
            LanguageIterFactory(expected_counts={}, **conf) if ours else SequenceIterFactory(**conf)
        )

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> DataLoader:
        return self.factory.build_iter(epoch, shuffle)


class Augmented(Dataset):
    """Noise for every utterance, from all generators."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys

    def __getitem__(self, key: str) -> tuple[str, np.ndarray]:
        noise = np.random.randn(4) + random.random() + torch.rand(4).numpy()
        return key, noise + 0.1 * self.keys.index(key)


def collate(rows: list[tuple[str, np.ndarray]]) -> tuple[list[str], dict[str, torch.Tensor]]:
    x = torch.from_numpy(np.stack([row[1] for row in rows]))
    index = torch.tensor([int(row[0][1:]) % 3 for row in rows])
    return [row[0] for row in rows], {"x": x, "y": x[:, :2] ** 2, "index": index}


@pytest.mark.parametrize("ours", [True, False], ids=["task", "sequence"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_augmentation_is_the_same_after_a_resume(
    tmp_path: Path, num_workers: int, ours: bool
) -> None:
    changes = {**soup("flat"), "max_epoch": 2}
    data = OnDisk(num_workers, ours)
    straight = run(ObjSoupTrainer, tmp_path / "straight", Noisy(), data=data, **changes)
    for after in (3, 6):
        with pytest.raises(Killed):
            run(dies(after), tmp_path / "killed", Noisy(), data=data, **changes)
    resumed = run(ObjSoupTrainer, tmp_path / "killed", Noisy(), data=data, **changes)
    assert torch.equal(parameters(straight), parameters(resumed))


def test_augmentation_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    found = [
        [batch["x"] for _, batch in OnDisk(workers, ours=True).build_iter(2)] for workers in (0, 2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    other = [batch["x"] for _, batch in OnDisk(0, ours=True).build_iter(3)]
    assert not torch.equal(other[0], found[0][0])


class Counting(Augmented):
    """Remembers what was read."""

    def __init__(self, keys: list[str]) -> None:
        super().__init__(keys)
        self.read: list[str] = []

    def __getitem__(self, key: str) -> tuple[str, np.ndarray]:
        self.read.append(key)
        return super().__getitem__(key)


@pytest.mark.parametrize("ours", [True, False], ids=["task", "sequence"])
def test_what_is_done_is_not_read_again(ours: bool) -> None:
    data = OnDisk(0, ours)
    data.factory.dataset = Counting(data.factory.dataset.keys)
    whole = describe_batches(data.build_iter(1))
    assert whole["count"] == 6
    assert describe_batches(data.build_iter(1)) == whole != describe_batches(data.build_iter(2))
    keys = [key for ids, _ in data.build_iter(1) for key in ids]
    data.factory.dataset.read.clear()
    left = [key for ids, _ in skip_batches(data.build_iter(1), 4) for key in ids]
    assert left == keys[12:] == data.factory.dataset.read
