# SPDX-License-Identifier: Apache-2.0
"""Scores of an experiment: every split, task and language."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from espnet_objsoup.data.datadir import NO_VALUE, DataDir, read
from espnet_objsoup.data.text import normalise
from espnet_objsoup.evaluation.error_rate import ErrorCounts, character_errors, word_errors
from espnet_objsoup.evaluation.translation import score_translations

Scores = dict[str, dict[str, Any]]


class ScoringError(ValueError):
    """Hypotheses and references do not belong together."""


def score_split(
    data_dir: Path, decode_dir: Path, asr_policy: str = "lc.rm", st_policy: str = "tc"
) -> Scores:
    """Scores of one split.

    Args:
        data_dir: dump directory with the references.
        decode_dir: directory with `asr`, `st`, `asr_ctc`, ... of this split.
        asr_policy, st_policy: text policies applied to both sides.

    Returns:
        "asr/fr" -> wer, cer and counts; "st/fr-en" -> bleu, bleu_lc, chrf, signature; a directory
        such as `asr_ctc` gives "asr_ctc/fr". "<directory>/mean" is the mean over languages.

    Raises:
        ScoringError: if there is nothing to score, or ids differ.
    """
    data = read(data_dir)
    directories = sorted(p for p in decode_dir.glob("*") if (p / "text").exists())
    if not directories:
        raise ScoringError(f"{decode_dir}: expected hypotheses in asr/text or st/text, found none")
    scores: Scores = {}
    for directory in directories:
        task = directory.name.split("_")[0]
        if task not in ("asr", "st"):
            raise ScoringError(f"{directory}: expected a directory of task asr or st")
        groups = _group(data, _read_hypotheses(directory / "text"), task, directory)
        for key, pairs in sorted(groups.items()):
            score = _recognition if task == "asr" else _translation
            policy = asr_policy if task == "asr" else st_policy
            scores[f"{directory.name}/{key}"] = score(pairs, key, policy)
        measures = ("wer", "cer") if task == "asr" else ("bleu", "bleu_lc", "chrf")
        scores[f"{directory.name}/mean"] = {
            measure: fmean(scores[f"{directory.name}/{key}"][measure] for key in groups)
            for measure in measures
        }
    return scores


def _read_hypotheses(path: Path) -> dict[str, str]:
    """Hypotheses may be empty, unlike values of a data directory."""
    hypotheses = {}
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            key, _, text = line.rstrip("\n").partition(" ")
            if not key or key in hypotheses:
                raise ScoringError(f"{path}:{number}: expected a new id, found {key!r}")
            hypotheses[key] = text
    return hypotheses


def _group(
    data: DataDir, hypotheses: Mapping[str, str], task: str, where: Path
) -> dict[str, list[tuple[str, str]]]:
    """(reference, hypothesis) by language or pair."""
    references = data.columns["text" if task == "asr" else "st_text"]
    groups: dict[str, list[tuple[str, str]]] = {}
    unknown = sorted(set(hypotheses) - set(references))
    if unknown:
        raise ScoringError(
            f"{where}: {len(unknown)} hypotheses are not in the data, such as {unknown[0]}"
        )
    for utterance in hypotheses:
        key = data.columns["utt2lang"][utterance]
        if task == "st":
            key += f"-{data.columns['utt2tgt'][utterance]}"
        if references[utterance] == NO_VALUE:
            raise ScoringError(f"{where}: {utterance} has a hypothesis but no reference")
        groups.setdefault(key, []).append((references[utterance], hypotheses[utterance]))
    missing = [
        utterance
        for utterance, text in references.items()
        if text != NO_VALUE
        and utterance not in hypotheses
        and _scored(data, utterance, task, groups)
    ]
    if missing:
        raise ScoringError(
            f"{where}: {len(missing)} utterances have no hypothesis, such as {min(missing)}; "
            "decode again (stage 12)"
        )
    return groups


def _scored(data: DataDir, utterance: str, task: str, groups: Mapping[str, Any]) -> bool:
    key = data.columns["utt2lang"][utterance]
    return (key if task == "asr" else f"{key}-{data.columns['utt2tgt'][utterance]}") in groups


def _recognition(pairs: list[tuple[str, str]], lang: str, policy: str) -> dict[str, Any]:
    references = [normalise(reference, lang, policy) for reference, _ in pairs]
    hypotheses = [normalise(hypothesis, lang, policy) for _, hypothesis in pairs]
    words = word_errors(references, hypotheses)
    characters = character_errors(references, hypotheses, lang)
    return {"wer": words.rate, "cer": characters.rate, **_counts(words), "sentences": len(pairs)}


def _counts(counts: ErrorCounts) -> dict[str, int]:
    return {
        "words": counts.reference_tokens,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "wrong_sentences": counts.wrong_sentences,
    }


def _translation(pairs: list[tuple[str, str]], key: str, policy: str) -> dict[str, Any]:
    target = key.split("-")[1]
    references = [normalise(reference, target, policy) for reference, _ in pairs]
    hypotheses = [normalise(hypothesis, target, policy) for _, hypothesis in pairs]
    return asdict(score_translations(references, hypotheses, target))
