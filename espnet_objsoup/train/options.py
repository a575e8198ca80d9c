# SPDX-License-Identifier: Apache-2.0
"""`trainer` and `trainer_conf` of a YAML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from espnet2.train.trainer import TrainerOptions

from espnet_objsoup.objectives import resolve_weights
from espnet_objsoup.train.state import SoupState

AVAILABLE_RECIPES = ("static",)
PLANNED_RECIPES = ("flat", "constrained", "bilevel", "multilevel")


class TrainerConfError(ValueError):
    """`trainer_conf` cannot be used as it stands."""


@dataclass(frozen=True)
class SoupConf:
    """`trainer_conf` of `trainer: objsoup`.

    Attributes:
        recipe: how objectives are combined; `static` is the weighted sum of their losses.
        weighting: name of the rule that gives weights; `static` for fixed ones.
        weighting_conf: options of the weighting; for `static` `{weights: {"asr/*": 0.3, ...}}`,
            by objective or glob, 1 for all where nothing is given.
    """

    recipe: str = "static"
    weighting: str = "static"
    weighting_conf: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, conf: Mapping[str, Any]) -> "SoupConf":
        """Check and parse a YAML block.

        Raises:
            TrainerConfError: naming the key that is wrong and what is known.
        """
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(conf) - set(known))
        if unknown:
            raise TrainerConfError(
                f"trainer_conf: unknown key {', '.join(unknown)}; known keys: {', '.join(known)}"
            )
        result = cls(**conf)
        if result.recipe in PLANNED_RECIPES:
            raise TrainerConfError(
                f"trainer_conf.recipe: {result.recipe} is not available in this version; "
                f"available: {', '.join(AVAILABLE_RECIPES)}"
            )
        if result.recipe not in AVAILABLE_RECIPES:
            raise TrainerConfError(
                f"trainer_conf.recipe: expected one of {', '.join(AVAILABLE_RECIPES)}, "
                f"found {result.recipe!r}"
            )
        if result.weighting != "static":
            raise TrainerConfError(
                f"trainer_conf.weighting: recipe static has fixed weights, so expected static, "
                f"found {result.weighting!r}"
            )
        unknown = sorted(set(result.weighting_conf) - {"weights"})
        if unknown:
            raise TrainerConfError(
                f"trainer_conf.weighting_conf: unknown key {', '.join(unknown)}; "
                "known keys: weights"
            )
        if not isinstance(result.weighting_conf.get("weights") or {}, Mapping):
            raise TrainerConfError(
                "trainer_conf.weighting_conf.weights: expected a mapping of objectives to numbers, "
                f"found {result.weighting_conf['weights']!r}"
            )
        return result

    def resolve(self, objectives: Sequence[str]) -> dict[str, float]:
        """Weight of every objective that the data has.

        Raises:
            ObjectiveError: naming the weight or the objective that does not fit.
        """
        weights = self.weighting_conf.get("weights") or {}
        return resolve_weights(weights, objectives, "trainer_conf.weighting_conf.weights")


def check_trainer_conf(trainer: str, conf: Mapping[str, Any] | None) -> None:
    """Check `trainer_conf` before a model is built.

    Args:
        trainer: `default` (ESPnet's own trainer) or `objsoup`.
        conf: the block `trainer_conf`.

    Raises:
        TrainerConfError: for a trainer or a key that does not exist.
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


# ESPnet's options that change a step and that AbsTrainer does not carry out.
_REFUSED = {
    "create_graph_in_tensorboard": "set it to false",
    "sharded_ddp": "use plain distributed training",
}


@dataclass
class SoupTrainerOptions(TrainerOptions):
    """ESPnet's options and ours; the same object is passed to every epoch of a run."""

    soup: SoupConf | None = None
    state: SoupState | None = None


def check_espnet_options(options: TrainerOptions) -> None:
    """Refuse options of ESPnet's trainer that would silently do nothing.

    Raises:
        TrainerConfError: naming the option and what to do.
    """
    for name, advice in _REFUSED.items():
        if getattr(options, name):
            raise TrainerConfError(f"{name}: trainer objsoup does not support it; {advice}")
    if options.accum_grad < 1:
        raise TrainerConfError(
            f"accum_grad: expected a whole number >= 1, found {options.accum_grad}"
        )
