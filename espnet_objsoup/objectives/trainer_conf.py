# SPDX-License-Identifier: Apache-2.0
"""`trainer` and `trainer_conf` of a YAML; read without torch, before anything slow starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

from espnet_objsoup.objectives.layers_conf import LayersConf
from espnet_objsoup.objectives.levels import LevelSpec, resolve_levels
from espnet_objsoup.objectives.soup_conf import SOUP_KEYS, check_soup_conf
from espnet_objsoup.objectives.weighting_table import RUNNING, STEP, WEIGHTINGS

GRADIENT_ENGINES = ("grouped", "reference")
ESTIMATES = ("unbiased", "batch")


class TrainerConfError(ValueError):
    """`trainer_conf` cannot be used as it stands."""


@dataclass(frozen=True)
class SoupConf:
    """`trainer_conf` of `trainer: objsoup`.

    Attributes:
        recipe: `static` (a weighted sum of the losses), `flat`, `constrained`, `bilevel` or
            `multilevel`.
        order: of the levels of `bilevel` (`as`, `sa`) and `multilevel` (`uas`, `usa`).
        levels: written out instead of a recipe, top first.
        weighting, weighting_conf: rule for weights within levels that name none.
        penalty, penalty_conf: coefficients of levels below the top that name none.
        gradient_engine: how gradients of objectives are measured: `grouped`, one pass per task for
            all utterances at once, or `reference`, by autograd utterance by utterance.
        estimate: of the Gramian of expected gradients: `unbiased`, from pairs of different
            utterances, or `batch`, that of the batches' own gradients, for comparison.
        weights_interval: steps between two refreshes of the weights.
        layers: which layers are measured.
        monitor: with recipe `static`, measure gradients without using them.
        reset_soup: start the soup afresh if a checkpoint holds another.
        max_nonfinite_steps: steps in a row without a finite loss and gradient that are borne.
        checkpoint_interval_steps: steps between two checkpoints inside an epoch; 0: only after it.
    """

    recipe: str | None = None
    order: str | None = None
    levels: Sequence[Mapping[str, Any]] | None = None
    weighting: str | None = None
    weighting_conf: Mapping[str, Any] | None = None
    penalty: str | None = None
    penalty_conf: Mapping[str, Any] | None = None
    gradient_engine: str = "grouped"
    estimate: str = "unbiased"
    weights_interval: int = 4
    layers: LayersConf = field(default_factory=LayersConf)
    monitor: bool = False
    reset_soup: bool = False
    max_nonfinite_steps: int = 20
    checkpoint_interval_steps: int = 0

    @classmethod
    def from_dict(cls, conf: Mapping[str, Any]) -> Self:
        """Check and parse a YAML block, as far as that is possible without the data.

        Raises:
            ValueError: naming the key that is wrong and what is known.
        """
        known = [f.name for f in fields(cls)]
        unknown = sorted(str(key) for key in conf if key not in known)
        if unknown:
            raise TrainerConfError(
                f"trainer_conf: unknown key {', '.join(unknown)}; known keys: {', '.join(known)}"
            )
        layers = LayersConf.from_dict(conf.get("layers"))
        result = cls(**{**conf, "layers": layers})
        check_soup_conf(result.soup_keys)
        result._check_numbers()
        for key, names in (("gradient_engine", GRADIENT_ENGINES), ("estimate", ESTIMATES)):
            if getattr(result, key) not in names:
                raise TrainerConfError(
                    f"trainer_conf.{key}: expected {' or '.join(names)}, found "
                    f"{getattr(result, key)!r}"
                )
        if layers.scope == "selected" and result.is_static:
            raise TrainerConfError(
                "trainer_conf.layers.scope: recipe static weights all parameters alike, so "
                "expected all, found selected"
            )
        if result.monitor and not result.is_static:
            raise TrainerConfError(
                "trainer_conf.monitor: measuring without acting goes with recipe static; other "
                "recipes report the same numbers anyway. Remove the key"
            )
        return result

    def _check_numbers(self) -> None:
        for key, least in (
            ("weights_interval", 1),
            ("max_nonfinite_steps", 1),
            ("checkpoint_interval_steps", 0),
        ):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise TrainerConfError(
                    f"trainer_conf.{key}: expected a whole number >= {least}, found {value!r}"
                )
        for key in ("monitor", "reset_soup"):
            if not isinstance(getattr(self, key), bool):
                raise TrainerConfError(
                    f"trainer_conf.{key}: expected true or false, found {getattr(self, key)!r}"
                )

    @property
    def soup_keys(self) -> dict[str, Any]:
        """The keys that make up the soup."""
        return {key: getattr(self, key) for key in SOUP_KEYS}

    @property
    def is_static(self) -> bool:
        """Whether the update is an ordinary weighted sum of the losses, for all parameters."""
        return self.levels is None and self.recipe in (None, "static")

    def resolve(self, objectives: Sequence[str]) -> tuple[LevelSpec, ...]:
        """Levels, checked against the objectives that the data has.

        Raises:
            ValueError: naming the key or the objective that does not fit.
        """
        return resolve_levels(self.soup_keys, objectives)

    def measures(self, levels: Sequence[LevelSpec]) -> bool:
        """Whether gradients of objectives have to be measured."""
        needed = (STEP, RUNNING)
        return self.monitor or any(
            WEIGHTINGS[level.weighting].needs in needed or level.penalty == "barrier"
            for level in levels
        )


def check_trainer_conf(trainer: str, conf: Mapping[str, Any] | None) -> None:
    """Check `trainer_conf` before a model is built.

    Args:
        trainer: `default` (ESPnet's own trainer) or `objsoup`.
        conf: the block `trainer_conf`.

    Raises:
        ValueError: for a trainer or a key that does not exist.
    """
    if trainer == "objsoup":
        SoupConf.from_dict(conf or {})
    elif trainer != "default":
        raise TrainerConfError(f"trainer: expected default or objsoup, found {trainer!r}")
    elif conf:
        raise TrainerConfError(
            f"trainer_conf: trainer default takes no options, found {', '.join(sorted(conf))}; "
            "set trainer: objsoup, or remove them"
        )
