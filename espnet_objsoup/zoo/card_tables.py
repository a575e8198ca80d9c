# SPDX-License-Identifier: Apache-2.0
"""Tables that the model card and `objsoup info` share, as rows of text."""

from collections.abc import Mapping, Sequence
from typing import Any

from espnet_objsoup.zoo.facts import ModelFacts

Rows = list[list[str]]
UNKNOWN = "not recorded"


def language_rows(facts: ModelFacts) -> Rows:
    """Spoken language, whether it is recognised, languages that it is translated into."""
    spoken = sorted({*facts.languages, *(source for source, _ in facts.pairs)})
    rows = [["spoken language", "recognition", "translation into"]]
    for lang in spoken:
        targets = ", ".join(target for source, target in facts.pairs if source == lang)
        rows.append([lang, "yes" if lang in facts.languages else "", targets])
    return rows


def soup_rows(facts: ModelFacts) -> Rows:
    """Level, its coefficient, objective, weight in the level, weighting, penalty."""
    rows = [["level", "coefficient", "objective", "weight", "weighting", "penalty"]]
    for number, level in enumerate(facts.soup.get("levels", []), start=1):
        weights: Mapping[str, Any] = level.get("weights") or {}
        rows += [
            [
                str(number),
                _number(level.get("coefficient")),
                name,
                _number(weights.get(name)),
                str(level.get("weighting")),
                str(level.get("penalty") or ""),
            ]
            for name in level.get("objectives", [])
        ]
    return rows


def data_rows(facts: ModelFacts) -> Rows:
    """Objective and its training utterances; only the head if they were not recorded."""
    counts = (facts.training_data or {}).get("utterances") or {}
    return [["objective", "utterances"], *([name, str(n)] for name, n in counts.items())]


def score_rows(scores: Mapping[str, Mapping[str, Any]], task: str) -> Rows:
    """Objectives of a set with their measures.

    Args:
        scores: of a set: `asr/fr`, `asr_ctc/fr`, `st/fr-en`, `asr/mean` -> measures.
        task: `asr` or `st`.
    """
    measures = {"wer": "WER", "cer": "CER"} if task == "asr" else {"bleu": "BLEU", "chrf": "chrF2"}
    rows = [["objective", "sentences", *measures.values()]]
    for name, score in scores.items():
        if name.split("/")[0].split("_")[0] != task:
            continue
        cells = []
        for key in measures:
            # Words of a language that is written without spaces are sentences.
            hidden = key == "wer" and score.get("measure") == "cer"
            value = score.get(key)
            cells.append(f"{value:.1f}" if isinstance(value, int | float) and not hidden else "")
        rows.append([name, str(score.get("sentences", "")), *cells])
    return rows


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = ["|" + "|".join(row) + "|" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def soup_summary(facts: ModelFacts) -> str:
    """Trainer and recipe in words."""
    soup = facts.soup
    if not soup:
        return UNKNOWN
    if soup.get("trainer") != "objsoup":
        weights = soup.get("objective_weights")
        shown = ", ".join(f"{k} {v:g}" for k, v in weights.items()) if weights else "all weights 1"
        return f"no soup: ESPnet's trainer on a weighted sum of the losses ({shown})"
    order = f", order {soup['order']}" if soup.get("order") else ""
    return f"{soup.get('recipe') or 'levels of its own'}{order}"


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else UNKNOWN
