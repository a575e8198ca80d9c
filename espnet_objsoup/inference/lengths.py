# SPDX-License-Identifier: Apache-2.0
"""How long the utterances were that a model was trained on. Imports neither torch nor espnet2.

A model is not to be given longer ones: an attention decoder that has never seen so much speech
leaves out words or repeats them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_objsoup.bin.input_checks import model_sample_rate
from espnet_objsoup.decoding.options import InferenceError
from espnet_objsoup.objectives.numbers import is_number

TRAINED_LENGTH = "trained_length_s"  # in a model's configuration
# A few long utterances have taught it nothing.
_PERCENTILE = 95
_LONGEST_S = 24 * 3600


@dataclass(frozen=True)
class TrainedLength:
    """Durations of a model's training utterances.

    Attributes:
        usual_s: few are longer.
        longest_s: none is longer.
    """

    usual_s: float
    longest_s: float

    def as_list(self) -> list[float]:
        """As a configuration has it."""
        return [self.usual_s, self.longest_s]


def trained_length(
    conf: Mapping[str, Any], find: Callable[[str], Path | None] = Path
) -> TrainedLength | None:
    """Durations of the training utterances; None if they are not known.

    They are noted in the configuration of a packed model; that of an experiment names the lengths
    that stage 10 wrote.

    Args:
        conf: `config.yaml`.
        find: the file that a path in it means, or None.

    Raises:
        InferenceError: if what is noted makes no sense.
    """
    noted = conf.get(TRAINED_LENGTH)
    if noted is not None:
        return _noted(noted)
    rate = model_sample_rate(conf)
    shapes = conf.get("train_shape_file") or []
    path = find(str(shapes[0])) if isinstance(shapes, list | tuple) and shapes else None
    if rate is None or path is None or not path.is_file():
        return None
    with open(path, encoding="utf-8") as file:
        lengths = [line.rstrip().rpartition(" ")[2] for line in file]
    samples = [int(length) for length in lengths if length.isdigit()]
    if not samples or len(samples) < len(lengths):
        return None  # of features, or of another tool
    usual, longest = (float(np.percentile(samples, p)) / rate for p in (_PERCENTILE, 100))
    return TrainedLength(round(usual, 2), math.ceil(100 * longest) / 100)


def _noted(value: object) -> TrainedLength:
    if isinstance(value, list) and len(value) == 2 and all(map(is_number, value)):
        usual, longest = value
        if 0 < usual <= longest <= _LONGEST_S:
            return TrainedLength(float(usual), float(longest))
    raise InferenceError(
        f"{TRAINED_LENGTH}: expected two lengths in seconds, above 0 and at most {_LONGEST_S}, the "
        f"usual and the longest one, found {str(value)[:80]}"
    )


def noted_length(conf: Mapping[str, Any], find: Callable[[str], Path | None]) -> dict[str, Any]:
    """What a configuration that leaves its experiment has to say of the lengths."""
    found = trained_length(conf, find)
    return {} if found is None else {TRAINED_LENGTH: found.as_list()}
