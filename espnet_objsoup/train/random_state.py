# SPDX-License-Identifier: Apache-2.0
"""States of the random number generators, and data that draws the same numbers every time."""

import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


def get_random_state(cuda: bool) -> dict[str, Any]:
    """States of Python's, NumPy's and PyTorch's generators, readable with `weights_only=True`.

    Args:
        cuda: also that of the current GPU.
    """
    name, keys, position, has_gauss, gauss = np.random.get_state()
    if name != "MT19937":
        raise ValueError(f"numpy.random: expected the generator MT19937, found {name}")
    return {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if cuda else None,
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Go back to `get_random_state`; the GPU's where one was saved and one is there."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def seed_all(*numbers: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators, a GPU's too, from any numbers >= 0."""
    torch.manual_seed(_seed_cpu(numbers))


def _seed_cpu(numbers: Sequence[int]) -> int:
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    return seed


@contextmanager
def _numbers_of(*numbers: int) -> Iterator[None]:
    """Within it the generators are seeded from `numbers`; afterwards they are as before.

    The CPU's: `torch.manual_seed` also notes the seed for GPUs, with a traceback where none is in
    use yet, as in a loader's workers, and takes half a millisecond for that.
    """
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        _seed_cpu(numbers)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class SeededDataset(Dataset):
    """A dataset whose augmentation depends on seed, epoch, batch and utterance alone.

    Not on which worker reads what, nor on what it has read before: an epoch can be entered
    anywhere, with any number of workers.

    Args:
        dataset: utterance -> example.
        seed: of the training.
        epoch: from 1.
    """

    def __init__(self, dataset: Dataset, seed: int, epoch: int) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, epoch

    def __getitem__(self, place: tuple[int, str]) -> Any:
        """The example of (batch, utterance)."""
        batch, key = place
        with _numbers_of(self.seed, self.epoch, batch, zlib.crc32(str(key).encode())):
            return self.dataset[key]


class NumberedBatches:
    """Batches of (number of the batch, utterance); the first ones can be left out.

    Args:
        batches: of utterances.
    """

    def __init__(self, batches: Sequence[Sequence[str]]) -> None:
        self.batches = batches
        self.first = 0

    def skip(self, n: int) -> None:
        """Begin with batch `n`, from 0."""
        self.first = n

    def __len__(self) -> int:
        """Batches that are left."""
        return len(self.batches) - self.first

    def __iter__(self) -> Iterator[list[tuple[int, str]]]:
        """The batches from `first` on."""
        for number in range(self.first, len(self.batches)):
            yield [(number, key) for key in self.batches[number]]


def seeded(loader: DataLoader, seed: int, epoch: int) -> DataLoader:
    """A loader of the same batches, with augmentation as of `SeededDataset`."""
    return DataLoader(
        dataset=SeededDataset(loader.dataset, seed, epoch),
        batch_sampler=NumberedBatches(list(loader.batch_sampler)),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
    )
