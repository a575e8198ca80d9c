# SPDX-License-Identifier: Apache-2.0
"""`layers` of `trainer_conf`: which layers are measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

POLICIES = ("conflict", "last_k", "all", "fixed")
SCOPES = ("all", "selected")


class LayerError(ValueError):
    """`layers` of the configuration does not fit the model."""


@dataclass(frozen=True)
class LayersConf:
    """`layers` of `trainer_conf`.

    Attributes:
        pattern: glob(s) over module names; None: the blocks of the encoder.
        policy: `conflict` (score below `threshold`, found by scans), `last_k`, `all` or `fixed`.
        threshold: of `conflict`.
        top_k: most layers that `conflict` selects, the worst ones.
        last_k: layers next to the output, for `last_k` and before the first scan.
        names: of `fixed`.
        scope: `all`: weights from the selected layers serve all shared parameters; `selected`: the
            other shared parameters get the plain average, at the price of another backward pass.
        scan_steps: steps of a scan, spread over the epoch.
        scan_interval: epochs between scans; 0: no scan.
    """

    pattern: str | Sequence[str] | None = None
    policy: str = "conflict"
    threshold: float = 0.0
    top_k: int = 4
    last_k: int = 2
    names: Sequence[str] = field(default_factory=tuple)
    scope: str = "all"
    scan_steps: int = 100
    scan_interval: int = 1

    @classmethod
    def from_dict(cls, conf: Mapping[str, Any] | None) -> "LayersConf":
        """Check and parse a YAML block.

        Raises:
            LayerError: naming the key that is wrong.
        """
        if conf is not None and not isinstance(conf, Mapping):
            raise LayerError(f"trainer_conf.layers: expected a mapping, found {conf!r}")
        known = [f.name for f in fields(cls)]
        unknown = sorted(str(key) for key in conf or {} if key not in known)
        if unknown:
            raise LayerError(
                f"trainer_conf.layers: unknown key {', '.join(unknown)}; known: {', '.join(known)}"
            )
        _check_types(conf)
        # Without a value it is as if the key were not there, as in the soup's own keys.
        given = {key: v for key, v in (conf or {}).items() if (key, v) != ("names", None)}
        result = cls(**given)
        result._check_choices()
        for key, low in (("top_k", 1), ("last_k", 1), ("scan_steps", 2), ("scan_interval", 0)):
            value = getattr(result, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise LayerError(
                    f"trainer_conf.layers.{key}: expected a whole number >= {low}, found {value!r}"
                )
        threshold = result.threshold
        number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        if not number or not -1.0 <= threshold <= 1.0:
            raise LayerError(
                f"trainer_conf.layers.threshold: expected a cosine in [-1, 1], found {threshold!r}"
            )
        return result

    def _check_choices(self) -> None:
        for key, choices in (("policy", POLICIES), ("scope", SCOPES)):
            if getattr(self, key) not in choices:
                raise LayerError(
                    f"trainer_conf.layers.{key}: expected {' or '.join(choices)}, found "
                    f"{getattr(self, key)!r}"
                )
        if (self.policy == "fixed") != bool(self.names):
            raise LayerError(
                "trainer_conf.layers.names: expected names of layers with policy fixed and only "
                f"with it, found policy {self.policy} and names {list(self.names)}"
            )
        if self.policy == "conflict" and self.scan_interval == 0:
            raise LayerError(
                "trainer_conf.layers.scan_interval: policy conflict finds layers by scans, so "
                "expected a number >= 1, found 0; or choose policy last_k"
            )


def _check_types(conf: Mapping[str, Any] | None) -> None:
    """`pattern` is a glob or several, `names` is a list."""
    for key, single in (("pattern", True), ("names", False)):
        value = (conf or {}).get(key)
        if value is None or (single and isinstance(value, str)):
            continue
        words = isinstance(value, Sequence) and not isinstance(value, str)
        if not words or not all(isinstance(word, str) for word in value):
            expected = "a glob, or a list of globs" if single else "a list of names"
            raise LayerError(f"trainer_conf.layers.{key}: expected {expected}, found {value!r}")
