# SPDX-License-Identifier: Apache-2.0
"""Audio that training reads: what is wrong with it is told by file and utterance.

Between stage 10 and the last epoch lie days, in which a file may vanish or be replaced. ESPnet
would raise what libsndfile says, "System error.", and take a WAV file that was cut off for a
shorter one.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espnet_objsoup.data.audio_io import read_audio

# ESPnet's types of inputs that are audio; of archives others may hold features.
AUDIO_TYPES = ("sound", "kaldi_ark")
_IN_WORKER = re.compile(r"^Caught UnreadableAudioError in DataLoader worker process")
_RAISED = re.compile(r"^\S*UnreadableAudioError: (?P<message>.*)", re.M | re.S)


class UnreadableAudioError(ValueError):
    """An utterance's audio is not what it was in stage 10."""


def without_worker(err: UnreadableAudioError) -> UnreadableAudioError:
    """The error as it was raised: PyTorch puts a worker's traceback into its message."""
    raised = _RAISED.search(str(err)) if _IN_WORKER.match(str(err)) else None
    return err if raised is None else UnreadableAudioError(raised["message"].strip())


def check_audio_of(
    dataset: Any, inputs: Sequence[Sequence[str]], shape_files: Sequence[str]
) -> None:
    """Replace the loaders of audio in a dataset of ESPnet's by those that check.

    Args:
        dataset: with `loader_dict`; others are left as they are.
        inputs: (file, name, type) of each input.
        shape_files: lengths as stage 10 found them, in files `<name>_shape`.
    """
    loaders = getattr(dataset, "loader_dict", {})
    shapes = {Path(path).name.removesuffix("_shape"): path for path in shape_files}
    for path, name, kind in inputs:
        if kind in AUDIO_TYPES and name in loaders:
            lengths = _lengths(shapes[name], loaders[name]) if name in shapes else {}
            loaders[name] = CheckedAudio(loaders[name], Path(path), lengths)


def _lengths(path: str, wanted: Mapping[str, Any]) -> dict[str, int]:
    """First number of each line, under the very keys of `wanted`, which take no more memory."""
    keys = {key: key for key in wanted}
    lengths = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            key, _, shape = line.partition(" ")
            if key in keys and shape.strip():
                lengths[keys[key]] = int(shape.partition(",")[0])
    return lengths


class CheckedAudio(Mapping):
    """A loader of ESPnet's that names file and utterance, and knows how long an utterance is.

    Args:
        loader: utterance -> (T, ...) or None.
        scp: the file that names the utterances' audio.
        lengths: utterance -> T; those that are missing are not compared.
    """

    def __init__(
        self, loader: Mapping[str, Any], scp: Path, lengths: Mapping[str, int] | None = None
    ) -> None:
        self.loader = loader
        self.scp = scp
        self.lengths = lengths or {}

    def __getitem__(self, utterance: str) -> np.ndarray | None:
        """Samples (T,) or features (T, D).

        Raises:
            UnreadableAudioError: if there are none, or more or less than there should be.
        """
        try:
            value = self.loader[utterance]
        except Exception as err:
            raise UnreadableAudioError(self._explain(utterance, _words(err))) from err
        expected = self.lengths.get(utterance)
        if value is None:  # of ESPnet's recipes whose utterances need no audio
            return value
        if expected is not None and len(value) != expected:
            found = f"expected {expected} samples as in stage 10, found {len(value)}"
            raise UnreadableAudioError(self._explain(utterance, found))
        if len(value) == 0:
            raise UnreadableAudioError(
                f"{self.scp}: utterance {utterance}: {_location(self.scp, utterance)}: expected "
                "audio, found no samples; remove the utterance (stages 3 and 4 do)"
            )
        return value

    def __len__(self) -> int:
        """Number of utterances."""
        return len(self.loader)

    def __iter__(self) -> Iterator[str]:
        """Names of utterances."""
        return iter(self.loader)

    def __contains__(self, utterance: object) -> bool:
        """Without reading it, as Mapping would."""
        return utterance in self.loader

    def _explain(self, utterance: str, found: str) -> str:
        location = _location(self.scp, utterance)
        where = f"{self.scp}: utterance {utterance}"
        if location is None:
            return f"{where}: {found}; the file does not name it any more: run stages 1 to 10 again"
        try:
            read_audio(location, channel=0)
        except OSError as err:
            found = err.strerror or str(err)
        except (ValueError, RuntimeError) as err:
            # An entry of another kind is a matrix of features, of which this reader knows nothing.
            if "expected audio in the archive" not in str(err):
                found = f"{found}; {err}" if found.startswith("expected") else str(err)
        return (
            f"{where}: {location}: {found}. Bring back what was there before and run the same "
            "command again (training resumes from its last checkpoint); or run the stages from 1 "
            "on with other data"
        )


def _words(err: Exception) -> str:
    return str(err).strip() or type(err).__name__


def _location(scp: Path, utterance: str) -> str | None:
    """What an scp file says of an utterance."""
    try:
        with open(scp, encoding="utf-8") as file:
            for line in file:
                key, _, location = line.strip().partition(" ")
                if key == utterance:
                    return location.strip()
    except OSError:
        return None
    return None
