# SPDX-License-Identifier: Apache-2.0
"""Options of decoding, checked before any model is loaded."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from espnet_objsoup.data.yaml_file import YamlError, load_yaml

# Whole numbers beyond it are no floats.
_MOST = 10**300


class InferenceError(ValueError):
    """A model or a request that cannot be served; the message says what there is."""


@dataclass(frozen=True)
class SearchOptions:
    """Options of the search, the same for both tasks where not said otherwise.

    Attributes:
        beam_size: hypotheses kept.
        ctc_weight: weight of CTC against attention in recognition; None: 0.3, or whatever the head
            has.
        st_ctc_weight: the same in translation (0 unless the head has CTC).
        length_bonus, st_length_bonus: added per token.
        maxlenratio: longest hypothesis in tokens per encoder frame; 0: as many as frames; below 0:
            that many tokens.
        minlenratio: shortest one, likewise.
        normalize_length: compare hypotheses by score per token.

    Raises:
        InferenceError: for a value that no search can have.
    """

    beam_size: int = 5
    ctc_weight: float | None = None
    st_ctc_weight: float = 0.0
    length_bonus: float = 0.0
    st_length_bonus: float = 0.0
    maxlenratio: float = 0.0
    minlenratio: float = 0.0
    normalize_length: bool = False

    def __post_init__(self) -> None:
        """Check values and how they go together."""
        if not _is_count(self.beam_size):
            raise _wrong("beam_size", "a whole number >= 1", self.beam_size)
        for name in ("ctc_weight", "st_ctc_weight"):
            weight = getattr(self, name)
            unset = weight is None and name == "ctc_weight"
            if not unset and not (_is_number(weight) and 0 <= weight <= 1):
                raise _wrong(name, "a number from 0 to 1", weight)
        for name in ("length_bonus", "st_length_bonus", "maxlenratio", "minlenratio"):
            if not _is_number(getattr(self, name)):
                raise _wrong(name, "a number", getattr(self, name))
        if not isinstance(self.normalize_length, bool):
            raise _wrong("normalize_length", "true or false", self.normalize_length)
        if 0 < self.maxlenratio < self.minlenratio:
            raise _wrong("minlenratio", f"at most maxlenratio {self.maxlenratio}", self.minlenratio)

    @classmethod
    def from_dict(cls, conf: Mapping[str, Any]) -> "SearchOptions":
        """Options of a YAML.

        Raises:
            InferenceError: for an unknown key, with the known ones, or a wrong value.
        """
        known = [f.name for f in fields(cls)]
        _refuse_unknown(conf, known)
        return cls(**conf)


@dataclass(frozen=True)
class DecodeOptions:
    """All that a decoding YAML says.

    Attributes:
        search: options of the search.
        nbest: hypotheses written for an utterance.
        ctc_greedy: also write the best CTC path, as `asr_ctc`.

    Raises:
        InferenceError: if the beam cannot give so many hypotheses.
    """

    search: SearchOptions = field(default_factory=SearchOptions)
    nbest: int = 1
    ctc_greedy: bool = False

    def __post_init__(self) -> None:
        """Check values and how they go together."""
        if not _is_count(self.nbest):
            raise _wrong("nbest", "a whole number >= 1", self.nbest)
        if self.nbest > self.search.beam_size:
            raise _wrong(
                "nbest",
                f"at most beam_size {self.search.beam_size}",
                f"{self.nbest}; raise beam_size or lower nbest",
            )
        if not isinstance(self.ctc_greedy, bool):
            raise _wrong("ctc_greedy", "true or false", self.ctc_greedy)

    @classmethod
    def from_yaml(cls, path: Path | None, nbest: int | None = None) -> "DecodeOptions":
        """Options of a file.

        Args:
            path: a YAML, or None for the defaults.
            nbest: of the command line; it wins over the file.

        Raises:
            InferenceError: naming the file, what it should hold and what it holds.
        """
        try:
            conf = {} if path is None else read_mapping(path)
            own = {name: conf.pop(name) for name in ("nbest", "ctc_greedy") if name in conf}
            if nbest is not None:
                own["nbest"] = nbest
            searches = [f.name for f in fields(SearchOptions)]
            _refuse_unknown(conf, [*searches, "nbest", "ctc_greedy"])
            return cls(SearchOptions(**conf), **own)
        except InferenceError as err:
            raise err if path is None else InferenceError(f"{path}: {err}") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read `option: value` lines.

    Raises:
        InferenceError: if the file is anything else.
        OSError: if it cannot be read.
    """
    try:
        conf = load_yaml(path.read_bytes())
    except YamlError as err:
        raise InferenceError(err.message) from err
    if conf is None:
        return {}
    if not isinstance(conf, dict):
        raise InferenceError(f"expected `option: value` lines, found {conf!r}")
    return conf


def read_train_config(path: Path) -> dict[str, Any]:
    """Configuration that training left beside the weights.

    Raises:
        InferenceError: if it is missing or not that of a model of this package.
    """
    if not path.is_file():
        raise InferenceError(
            f"{path}: expected config.yaml of a trained experiment, found none; train first "
            "(stage 11) or correct the path"
        )
    try:
        conf = read_mapping(path)
    except InferenceError as err:
        raise InferenceError(f"{path}: {err}") from None
    if not conf.get("objectives"):
        raise InferenceError(
            f"{path}: expected the configuration of a model with objectives, found no "
            "`objectives`; a model of another ESPnet task is decoded by that task's own command"
        )
    return conf


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST


def _wrong(name: str, expected: str, found: object) -> InferenceError:
    return InferenceError(f"decoding options: {name}: expected {expected}, found {found}")


def _refuse_unknown(conf: Mapping[str, Any], known: list[str]) -> None:
    unknown = sorted(str(key) for key in set(conf) - set(known))
    if unknown:
        raise InferenceError(
            f"decoding options: unknown key {', '.join(unknown)}; known: {', '.join(known)}"
        )
