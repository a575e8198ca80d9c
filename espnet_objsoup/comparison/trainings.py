# SPDX-License-Identifier: Apache-2.0
"""The trainings that a run consists of: configurations, lengths, and what starts from what."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from espnet_objsoup.comparison.plan import Arm, Comparison, PlanError, Variant

# 0.02 per epoch is the paper's, for 200 epochs.
_PAPER_STEP, _PAPER_EPOCHS = 0.02, 200


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        name: its part of the experiment's name; empty: the run's last and scored one.
        conf: full configuration.
        kind: trainings of one kind cost the same per update.
        start: experiment's name to start from (its part); `?` is the best candidate; empty: none.
        modules: what is taken from there, `from:to`; empty: everything.
        is_candidate: whether it is one of those among which the best is looked for.
    """

    name: str
    conf: Mapping[str, Any]
    kind: str
    start: str = ""
    modules: str = ""
    is_candidate: bool = False

    @property
    def epochs(self) -> int:
        """Length of the training."""
        return self.conf["max_epoch"]


def merge(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `more`, mappings key by key; neither is changed.

    The options of a weighting, a penalty or a choice of layers belong to what they are options of:
    they are replaced as a whole.
    """
    result = {key: copy.deepcopy(value) for key, value in base.items()}
    for key, value in more.items():
        whole = key in ("weighting_conf", "penalty_conf", "layers", "weights", "ssl_conf")
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping) and not whole:
            result[key] = merge(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def configuration(
    comparison: Comparison,
    variant: Variant,
    more: Mapping[str, Any],
    seed: int,
    epochs: int | None = None,
) -> dict[str, Any]:
    """A training's configuration.

    Args:
        comparison, variant: what is common.
        more: what the arm has instead.
        seed: of training.
        epochs: length; None: as the variant says.

    Raises:
        PlanError: without a number of epochs, or one of batches that a schedule needs.
    """
    conf = merge(merge(comparison.base, variant.conf), more)
    conf["seed"] = seed
    if epochs is not None:
        conf["max_epoch"] = epochs
    if type(conf.get("max_epoch")) is not int or conf["max_epoch"] < 1:
        raise PlanError(
            f"{comparison.path}: max_epoch: expected a whole number >= 1, found "
            f"{conf.get('max_epoch')!r}"
        )
    schedule = conf.get("scheduler_conf") or {}
    if "max_steps" in schedule:  # the whole schedule, however long the training is
        if type(conf.get("num_iters_per_epoch")) is not int:
            raise PlanError(
                f"{comparison.path}: scheduler_conf.max_steps is made from max_epoch x "
                f"num_iters_per_epoch: expected a whole number, found "
                f"{conf.get('num_iters_per_epoch')!r}"
            )
        schedule["max_steps"] = conf["max_epoch"] * conf["num_iters_per_epoch"]
    penalty = (conf.get("trainer_conf") or {}).get("penalty_conf") or {}
    if penalty.get("step") == "paper":
        penalty["step"] = round(_PAPER_STEP * _PAPER_EPOCHS / conf["max_epoch"], 4)
    return conf


def trainings_of(
    comparison: Comparison, variant: Variant, arm: Arm, seed: int, epochs: int | None = None
) -> list[Training]:
    """The trainings of a run, in order; together they are as long as any other arm's run.

    Args:
        comparison: the file.
        variant, arm, seed: the run.
        epochs: of all together; None: as the variant says.
    """

    def conf(more: Mapping[str, Any], length: int | None) -> dict[str, Any]:
        return configuration(comparison, variant, more, seed, length)

    total = epochs or conf({}, None)["max_epoch"]
    if arm.choose:
        length = _part(arm.choose.share, total)
        rest = total - length * len(arm.choose.among)
        tries = [
            Training(
                name=f"try_{name}",
                conf=conf(comparison.arms[name].conf, length),
                kind=_kind(comparison, name),
                is_candidate=True,
            )
            for name in arm.choose.among
        ]
        # Which candidate it is will be known when they are trained.
        last = conf(arm.conf, _rest(arm, rest))
        return [*tries, Training("", last, _kind(comparison, arm.name), start="?")]
    if arm.before:
        length = _part(arm.before.share, total)
        first = Training("before", conf(arm.before.conf, length), f"{arm.name}_before")
        last = conf(arm.conf, _rest(arm, total - length))
        kind = _kind(comparison, arm.name)
        return [first, Training("", last, kind, "before", arm.before.modules)]
    return [Training("", conf(arm.conf, total), _kind(comparison, arm.name))]


def with_choice(comparison: Comparison, training: Training, best: str) -> Training:
    """The last training, once the best candidate is known.

    Args:
        comparison: the file.
        training: the one that waits for it.
        best: name of the arm.
    """
    conf = merge(training.conf, comparison.arms[best].conf)
    return Training("", conf, _kind(comparison, best), f"try_{best}", training.modules)


def _kind(comparison: Comparison, name: str) -> str:
    return comparison.arms[name].cost_of or name


def _part(share: float, epochs: int) -> int:
    return max(round(share * epochs), 1)


def _rest(arm: Arm, epochs: int) -> int:
    if epochs < 1:
        raise PlanError(
            f"arms.{arm.name}: expected a run that is longer than what comes before, which leaves "
            f"{epochs} epochs; give more epochs"
        )
    return epochs
