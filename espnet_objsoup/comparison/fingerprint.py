# SPDX-License-Identifier: Apache-2.0
"""Checksums of what a result depends on: configurations, and the data as text."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_objsoup.comparison.trainings import Training

# Audio is told by its lengths: they are of the same make if texts and lengths are.
_COLUMNS = ("text", "st_text", "utt2lang", "utt2tgt", "utt2num_samples")
_DIGITS = 16


def config_fingerprint(trainings: Sequence[Training], decoding: Mapping[str, Any]) -> str:
    """Checksum of a run's configurations, whatever its seed.

    Args:
        trainings: of the run, before a choice is made.
        decoding: options of decoding.
    """
    parts = [
        {
            "name": training.name,
            "conf": {key: value for key, value in training.conf.items() if key != "seed"},
            "start": training.start,
            "modules": training.modules,
        }
        for training in trainings
    ]
    return _digest(json.dumps([parts, decoding], sort_keys=True, default=str).encode())


def data_fingerprint(sets: Sequence[Path], tokens: Path) -> str:
    """Checksum of what is trained and tested on.

    Args:
        sets: dump directories, train, dev and test.
        tokens: token list.

    Raises:
        OSError: if a file is missing.
    """
    digest = hashlib.sha256()
    for path in [*(directory / name for directory in sets for name in _COLUMNS), tokens]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:_DIGITS]


def test_fingerprint(ids: Sequence[str], references: Sequence[str]) -> str:
    """Checksum of what is scored, so that counts of utterances are paired rightly."""
    return _digest(json.dumps([list(ids), list(references)]).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
