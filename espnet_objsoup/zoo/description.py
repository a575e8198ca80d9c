# SPDX-License-Identifier: Apache-2.0
"""What `objsoup info` says of a model, as values and as text."""

from collections.abc import Mapping
from typing import Any

from humanfriendly import format_size

import espnet_objsoup
from espnet_objsoup.bin.cli import printable
from espnet_objsoup.decoding.options import read_mapping
from espnet_objsoup.zoo.card_tables import (
    UNKNOWN,
    data_rows,
    language_rows,
    plain,
    score_rows,
    soup_rows,
    soup_summary,
)
from espnet_objsoup.zoo.config import read_conf
from espnet_objsoup.zoo.facts import ModelFacts, facts_of_experiment, read_scores
from espnet_objsoup.zoo.meta import TRAIN_CONFIG
from espnet_objsoup.zoo.pretrained import PretrainedModel
from espnet_objsoup.zoo.versions import package_version


def describe(model: PretrainedModel, source: str) -> dict[str, Any]:
    """All that is known, for JSON; None means "not recorded".

    Args:
        model: from `find_model`.
        source: as the user named it.

    Raises:
        ModelError: if a file of the model is damaged.
    """
    facts = facts_of(model)
    meta = model.meta
    experiment = model.directory
    if meta is not None:
        experiment = (model.directory / meta.yaml_files[TRAIN_CONFIG]).parent
    options = model.inference_config and read_mapping(model.inference_config)
    return {
        "model": source,
        "packed": meta is not None,
        **facts.as_dict(),
        "languages": facts.languages,
        "translations": [f"{source}-{target}" for source, target in facts.pairs],
        "weights": model.model_file.name,
        "weights_bytes": model.model_file.stat().st_size,
        "versions": meta
        and {
            "espnet_objsoup": meta.version or None,
            "espnet": meta.espnet or None,
            "torch": meta.torch or None,
            "python": meta.python or None,
        },
        "installed": {
            "espnet_objsoup": espnet_objsoup.__version__,
            "espnet": package_version("espnet") or None,
            "torch": package_version("torch") or None,
        },
        "install": (meta and meta.install) or None,
        "decoding": options or None,
        "scores": read_scores(experiment / "scores.json"),
    }


def facts_of(model: PretrainedModel) -> ModelFacts:
    """Facts of a packed model, as it says itself, or of an experiment.

    Raises:
        ModelError: if they make no sense.
    """
    if model.meta is not None and "objectives" in model.meta.facts:
        return ModelFacts.from_dict(model.meta.facts, str(model.directory))
    # Packed by ESPnet's own tool: its configuration says what an experiment's does.
    config = model.train_config
    if model.meta is not None:
        config = model.directory / model.meta.yaml_files[TRAIN_CONFIG]
    return facts_of_experiment(config.parent if model.meta else model.directory, read_conf(config))


def as_text(values: Mapping[str, Any]) -> str:
    """The description for people.

    Args:
        values: from `describe`.
    """
    facts = ModelFacts.from_dict(values, str(values["model"]))
    parameters = "" if facts.parameters is None else f", {facts.parameters} numbers"
    lines = {
        "model": f"{facts.name} ({'packed' if values['packed'] else 'experiment'})",
        "objectives": ", ".join(facts.objectives),
        "soup": soup_summary(facts),
        "licence": facts.license or "none stated",
        "corpus": facts.corpus or UNKNOWN,
        "recipe": facts.recipe or UNKNOWN,
        "audio": f"{facts.sample_rate_hz} Hz" if facts.sample_rate_hz else UNKNOWN,
        "vocabulary": f"{facts.vocabulary or UNKNOWN} tokens ({facts.token_type or UNKNOWN})",
        "weights": f"{values['weights']}, {format_size(values['weights_bytes'])}{parameters}",
        "made with": _pairs(values["versions"]),
        "installed": _pairs(values["installed"]),
        "install": f"{values['install']} (as the model says)" if values["install"] else UNKNOWN,
        "decoding": _pairs(values["decoding"]),
    }
    parts = [plain([[name, text] for name, text in lines.items()])]
    parts.append(plain(language_rows(facts)))
    for rows in (soup_rows(facts), data_rows(facts)):
        if len(rows) > 1:
            parts.append(plain(rows))
    for split, scores in values["scores"].items():
        for task in ("asr", "st"):
            rows = score_rows(scores, task)
            if len(rows) > 1:
                parts.append(f"scores of {split}\n{plain(rows)}")
    if not values["scores"]:
        parts.append(f"scores: {UNKNOWN}")
    return printable("\n\n".join(parts))


def _pairs(values: Mapping[str, Any] | None) -> str:
    if not values:
        return UNKNOWN
    return ", ".join(
        f"{name} {UNKNOWN if value is None else value}" for name, value in values.items()
    )
