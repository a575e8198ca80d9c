# SPDX-License-Identifier: Apache-2.0
"""The YAML at the head of a model card, by which the hub lists a model."""

from collections.abc import Iterator, Mapping
from typing import Any

from espnet_objsoup.zoo.facts import ModelFacts

_TASKS = {
    "asr": ("automatic-speech-recognition", "Speech recognition"),
    "st": ("translation", "Speech translation"),
}
_MEASURES = {"asr": {"wer": "WER", "cer": "CER"}, "st": {"bleu": "BLEU", "chrf": "chrF2"}}


def metadata(facts: ModelFacts, scores: Mapping[str, Any]) -> str:
    """Content between the two lines `---`.

    Args:
        facts: of the model.
        scores: set -> `asr/fr` -> measures.
    """
    # The hub's own client knows the form; half a second to import.
    from huggingface_hub import ModelCardData

    tags = ["espnet", "espnet_objsoup", "audio"]
    if facts.languages:
        tags.append("automatic-speech-recognition")
    if facts.pairs:
        tags.append("speech-translation")
    results = list(_results(facts, scores))
    data = ModelCardData(
        language=facts.all_languages,
        license=facts.license,
        library_name="espnet_objsoup",
        pipeline_tag="automatic-speech-recognition" if facts.languages else None,
        tags=tags,
        datasets=facts.datasets or None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=facts.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def _results(facts: ModelFacts, scores: Mapping[str, Any]) -> Iterator[Any]:
    from huggingface_hub import EvalResult

    data = facts.datasets[0] if facts.datasets else facts.recipe or "unknown"
    for split, of_split in scores.items():
        for name, score in of_split.items():
            directory, _, languages = name.partition("/")
            # The mean is no dataset's score, and a model has one decoder here: the attention's.
            if directory not in _TASKS or languages == "mean":
                continue
            kind, title = _TASKS[directory]
            for measure, shown in _MEASURES[directory].items():
                if measure not in score or (measure == "wer" and score.get("measure") == "cer"):
                    continue
                yield EvalResult(
                    task_type=kind,
                    task_name=title,
                    dataset_type=data,
                    dataset_name=f"{facts.corpus or data} ({languages})",
                    dataset_config=languages,
                    dataset_split=split,
                    metric_type=measure,
                    metric_name=shown,
                    metric_value=round(float(score[measure]), 2),
                )
