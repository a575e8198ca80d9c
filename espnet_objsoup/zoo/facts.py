# SPDX-License-Identifier: Apache-2.0
"""What is known of a model: objectives, soup, data, sizes, scores."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from humanfriendly import InvalidSize, parse_size

from espnet_objsoup.data.datadir import objective_counts, read
from espnet_objsoup.data.tables import DataDirError
from espnet_objsoup.objectives import ObjectiveSpec
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.resolve import in_experiment
from espnet_objsoup.zoo.soup_facts import soup_facts

_KINDS = {
    "name": str, "objectives": list, "soup": dict, "sample_rate_hz": int, "token_type": str,
    "vocabulary": int, "parameters": int, "training_data": dict, "recipe": str, "corpus": str,
    "datasets": list, "license": str, "seed": int,
}  # fmt: skip


@dataclass(frozen=True)
class ModelFacts:
    """What a card and `objsoup info` say; None and empty mean "not recorded".

    Attributes:
        name: of the experiment.
        objectives: `asr/fr`, `st/fr-en`, `ssl`.
        soup: see `soup_facts`.
        sample_rate_hz: of audio.
        token_type: `bpe`, `char` or `word`.
        vocabulary: number of tokens.
        parameters: numbers in the weights, buffers included.
        training_data: `utterances` (objective -> number of labels) and `hours`.
        recipe: directory of the recipe, such as `mini_objsoup`.
        corpus: names of the corpora, as the user gave them.
        datasets: their ids on the hub.
        license: identifier of the hub, such as `cc-by-4.0`.
        seed: of training.
    """

    name: str
    objectives: list[str]
    soup: dict[str, Any] = field(default_factory=dict)
    sample_rate_hz: int | None = None
    token_type: str | None = None
    vocabulary: int | None = None
    parameters: int | None = None
    training_data: dict[str, Any] | None = None
    recipe: str | None = None
    corpus: str | None = None
    datasets: list[str] = field(default_factory=list)
    license: str | None = None
    seed: int | None = None

    @property
    def languages(self) -> list[str]:
        """Languages that are recognised."""
        return [spec.lang for spec in self._specs("asr")]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Spoken and target languages that are translated."""
        return [(spec.lang, spec.target_lang) for spec in self._specs("st")]

    @property
    def all_languages(self) -> list[str]:
        """All languages of speech and text, in alphabetical order."""
        return sorted({*self.languages, *(lang for pair in self.pairs for lang in pair)})

    def _specs(self, task: str) -> list[ObjectiveSpec]:
        specs = [ObjectiveSpec.parse(name) for name in self.objectives]
        return [spec for spec in specs if spec.task == task]

    def as_dict(self) -> dict[str, Any]:
        """For `meta.yaml`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], name: str) -> Self:
        """What `meta.yaml` says; unknown keys are of a later version and ignored.

        Args:
            values: under its key `objsoup`.
            name: of the model, for messages.

        Raises:
            ModelError: if a value makes no sense.
        """
        known = {f.name for f in fields(cls)}
        try:
            facts = cls(**{key: value for key, value in values.items() if key in known})
            facts._specs("")
            for key, kind in _KINDS.items():
                value = getattr(facts, key)
                if not (value is None or isinstance(value, kind)):
                    raise TypeError(f"{key}: expected {kind.__name__}, found {str(value)[:80]!r}")
        except (TypeError, ValueError, AttributeError) as err:
            raise ModelError(f"{name}: meta.yaml: objsoup: {err}; pack the model again") from err
        return facts


def facts_of_experiment(experiment: Path, conf: Mapping[str, Any], **known: Any) -> ModelFacts:
    """Facts of an experiment.

    Args:
        experiment: directory with `config.yaml`.
        conf: that configuration.
        known: what the experiment does not say, such as `license`.

    Raises:
        ModelError: if the configuration is not valid.
    """
    objectives = [str(name) for name in conf["objectives"]]
    try:
        soup = soup_facts(conf, objectives, experiment)
        rate = _sample_rate(conf)
        return ModelFacts(
            name=Path(os.path.abspath(experiment)).name,
            objectives=objectives,
            soup=soup,
            sample_rate_hz=rate,
            token_type=conf.get("token_type"),
            vocabulary=_vocabulary(conf),
            training_data=_training_data(experiment, conf, rate),
            seed=conf.get("seed"),
            **known,
        )
    except ModelError:
        raise
    except (ValueError, TypeError, AttributeError) as err:
        raise ModelError(f"{experiment / 'config.yaml'}: {err}") from err


def read_scores(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """`scores.json` of stage 13: set -> `asr/fr` -> measures; empty if there is none.

    Raises:
        ModelError: if it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(row, dict) for of_set in scores.values() for row in of_set.values()):
            raise ValueError("other values than measures")
    except (ValueError, AttributeError, RecursionError) as err:
        raise ModelError(
            f"{path}: expected the scores of stage 13, found {err}; score again (stage 13)"
        ) from err
    return scores


def _sample_rate(conf: Mapping[str, Any]) -> int | None:
    value = (conf.get("frontend_conf") or {}).get("fs", 16000)
    if conf.get("input_size") is not None:
        return None  # features, not audio
    try:
        return int(value) if isinstance(value, int) else parse_size(str(value))
    except InvalidSize:
        return None


def _vocabulary(conf: Mapping[str, Any]) -> int | None:
    tokens = conf.get("token_list")
    return len(tokens) if isinstance(tokens, Sequence) and not isinstance(tokens, str) else None


def _training_data(
    experiment: Path, conf: Mapping[str, Any], rate: int | None
) -> dict[str, Any] | None:
    """Counts of the training data, if they are still where training read them."""
    triples = conf.get("train_data_path_and_name_and_type") or []
    find = in_experiment(experiment, conf)
    found = next((find(str(triple[0])) for triple in triples if triple[1] == "speech"), None)
    if found is None:
        return None
    try:
        data = read(found.parent, allow_pipes=True)
    except (DataDirError, OSError):
        return None
    counts = objective_counts(data)
    labels = {name: counts[name] for name in conf["objectives"] if name in counts}
    samples = data.columns.get("utt2num_samples")
    hours = None
    if samples and rate:
        hours = float(f"{sum(map(int, samples.values())) / rate / 3600:.3g}")
    return {"utterances": labels, "hours": hours}
