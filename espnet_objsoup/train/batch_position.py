# SPDX-License-Identifier: Apache-2.0
"""Where in an epoch's batches training stands, and how to get there again."""

import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader

from espnet_objsoup.train.random_state import NumberedBatches


def describe_batches(batches: Iterable) -> dict[str, int | None]:
    """What tells whether an epoch's batches are those that were saved.

    Returns:
        `count` (None if unknown) and `checksum` of the utterances in their order (None if the
        iterator does not tell which it will read).
    """
    count = len(batches) if hasattr(batches, "__len__") else None
    checksum = None
    keys = _keys(batches)
    if keys is not None:
        checksum = 0
        for batch in keys:
            checksum = zlib.crc32("\n".join([*map(str, batch), ""]).encode(), checksum)
    return {"count": count, "checksum": checksum}


def _keys(batches: Iterable) -> Sequence[Sequence[Any]] | None:
    sampler = getattr(batches, "batch_sampler", None)
    if isinstance(sampler, NumberedBatches):
        return sampler.batches
    return sampler if isinstance(sampler, list) else None


def skip_batches(batches: Iterable, n: int) -> Iterator:
    """The batches after the first n, which are read only if that cannot be avoided.

    Batches are the same as after reading n of them, except for what the process' own random
    generators put into them. Workers have generators that nobody can set: where they decide, as in
    ESPnet's iterators with `num_workers`, what was read is read again.
    """
    if isinstance(batches, DataLoader):
        sampler = batches.batch_sampler
        if isinstance(sampler, NumberedBatches):
            sampler.skip(n)
            return iter(batches)
        if batches.num_workers == 0 and isinstance(sampler, list):
            return iter(
                DataLoader(
                    dataset=batches.dataset,
                    batch_sampler=sampler[n:],
                    collate_fn=batches.collate_fn,
                    pin_memory=batches.pin_memory,
                )
            )
    if not isinstance(batches, list):
        logging.info(
            "the first %d batches of the epoch are read again, so that data augmentation is as it "
            "was; with iterator_type: task they are skipped",
            n,
        )
    iterator = iter(batches)
    for _ in range(n):
        if next(iterator, None) is None:
            break
    return iterator
