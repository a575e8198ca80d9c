# SPDX-License-Identifier: Apache-2.0
"""Levels of the soup that a model was trained with, and the weights it ended with."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_objsoup.objectives import LevelSpec, SoupConf, level_coefficients

LOG = "soup.jsonl"  # as espnet_objsoup.train.soup_log names it, which imports torch


def soup_facts(
    conf: Mapping[str, Any], objectives: Sequence[str], experiment: Path
) -> dict[str, Any]:
    """What of a soup is known.

    Args:
        conf: `config.yaml` of training.
        objectives: of the model.
        experiment: directory with `soup.jsonl`, if there was anything to note.

    Returns:
        `trainer`, `recipe`, `order`; `levels`, top first, each with `objectives`, `weighting`,
        `penalty`, `coefficient` and `weights` (None where not known) at the end of training; and
        `source`, where the latter are from.

    Raises:
        ValueError: if `trainer_conf` is not valid.
    """
    if conf.get("trainer", "default") != "objsoup":
        weights = (conf.get("model_conf") or {}).get("objective_weights")
        return {
            "trainer": "default",
            "recipe": None,
            "order": None,
            "levels": [],
            "objective_weights": weights or None,
            "source": "config.yaml",
        }
    soup = SoupConf.from_dict(conf.get("trainer_conf") or {})
    levels = soup.resolve(objectives)
    last = _last_refresh(experiment / LOG)
    if last is None:
        # Nothing was measured, so the configuration says it all.
        epochs = _epochs(conf, experiment)
        coefficients, last = level_coefficients(levels, epochs), {}
        source = f"config.yaml, epoch {epochs}"
    else:
        names = (f"soup_level_coefficient/{number}" for number in range(1, len(levels) + 1))
        coefficients = [last.get(name) for name in names]
        source = f"{LOG}, step {last.get('step')}, epoch {last.get('epoch')}"
    # Only in a soup of one level static weights are taken as they are.
    rows = [
        _row(level, coefficient, last, _fixed_weights(level, sum_1=len(levels) > 1))
        for level, coefficient in zip(levels, coefficients, strict=True)
    ]
    recipe = soup.recipe or ("static" if soup.levels is None else None)
    facts = {"trainer": "objsoup", "recipe": recipe, "order": soup.order, "levels": rows}
    return {**facts, "source": source}


def _epochs(conf: Mapping[str, Any], experiment: Path) -> int:
    """Epochs that were trained; as many as were asked for, where no epoch's weights are left."""
    found = (re.fullmatch(r"(\d+)epoch\.pth", path.name) for path in experiment.glob("*epoch.pth"))
    numbers = [int(match[1]) for match in found if match]
    return max(numbers, default=max(int(conf.get("max_epoch") or 1), 1))


def _row(
    level: LevelSpec,
    coefficient: float | None,
    last: Mapping[str, Any],
    fixed: Mapping[str, float | None],
) -> dict[str, Any]:
    return {
        "objectives": list(level.objectives),
        "weighting": level.weighting,
        "penalty": level.penalty,
        "coefficient": coefficient,
        "weights": {
            name: last.get(f"soup_weight/{name}", fixed[name]) for name in level.objectives
        },
    }


def _fixed_weights(level: LevelSpec, sum_1: bool) -> dict[str, float | None]:
    """Weights that are no result of training, None for the others."""
    count = len(level.objectives)
    if level.weighting == "static":
        given = level.weighting_conf.get("weights") or {}
        weights = {name: float(given.get(name, 1.0)) for name in level.objectives}
        total = sum(weights.values()) if sum_1 else 1.0
        return {name: weight / total for name, weight in weights.items()}
    if level.weighting == "uniform" or count == 1:
        return dict.fromkeys(level.objectives, 1.0 / count)
    return dict.fromkeys(level.objectives)


def _last_refresh(path: Path) -> dict[str, Any] | None:
    """The last line of kind `refresh` that is whole."""
    if not path.is_file():
        return None
    found = None
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if '"refresh"' in line:
                try:
                    values = json.loads(line)
                except ValueError:
                    continue  # cut off by a kill
                if values.get("kind") == "refresh":
                    found = values
    return found
