# SPDX-License-Identifier: Apache-2.0
"""Scores of an experiment: every split, task and language."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from espnet_objsoup.data.datadir import NO_VALUE, DataDir, read
from espnet_objsoup.data.text import UNSPACED_LANGUAGES, normalise
from espnet_objsoup.evaluation.cross_check import cross_check
from espnet_objsoup.evaluation.details import (
    ScoredUtterance,
    write_error_details,
    write_translation_details,
)
from espnet_objsoup.evaluation.error_rate import (
    ErrorCounts,
    character_errors,
    characters_of,
    word_errors,
    words_of,
)
from espnet_objsoup.evaluation.translation import score_translations

Scores = dict[str, dict[str, Any]]


class ScoringError(ValueError):
    """Hypotheses and references do not belong together."""


def score_split(
    data_dir: Path,
    decode_dir: Path,
    asr_policy: str = "lc.rm",
    st_policy: str = "tc",
    check: bool = True,
) -> Scores:
    """Scores of one split; writes `<decode_dir>/<task>/score_{wer,cer,bleu}` beside them.

    Args:
        data_dir: dump directory with the references.
        decode_dir: directory with `asr`, `st`, `asr_ctc`, ... of this split.
        asr_policy, st_policy: text policies applied to both sides.
        check: compare error rates with an independent implementation.

    Returns:
        "asr/fr" -> wer, cer and counts, and `measure`, which of the two is the language's
        `error_rate`; "st/fr-en" -> bleu, bleu_lc, chrf, signatures; a directory such as `asr_ctc`
        gives "asr_ctc/fr". "<directory>/mean" is the mean over languages, of `wer` over those
        written with spaces.

    Raises:
        ScoringError: if there is nothing to score, or ids differ.
        CrossCheckError: if the implementations disagree.
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
        policy = asr_policy if task == "asr" else st_policy
        scores |= _score_directory(data, directory, task, policy, check)
    return scores


def _score_directory(data: DataDir, directory: Path, task: str, policy: str, check: bool) -> Scores:
    found = _group(data, _read_hypotheses(directory / "text"), task, directory)
    groups = {key: _normalised(found[key], policy) for key in sorted(found)}
    scores: Scores = {}
    for key, utterances in groups.items():
        name = f"{directory.name}/{key}"
        if task == "asr":
            scores[name] = _recognition(name, utterances, check)
        else:
            scores[name] = _translation(utterances)
        scores[name]["text_policy"] = policy
    _write_details(directory, task, groups, scores)
    return {**scores, f"{directory.name}/mean": _mean(scores, task)}


def _mean(scores: Scores, task: str) -> dict[str, float]:
    """Means over languages. Words of languages without spaces are sentences, so that their WER
    belongs into no mean."""
    measures = ("cer", "error_rate") if task == "asr" else ("bleu", "bleu_lc", "chrf")
    mean = {measure: fmean(score[measure] for score in scores.values()) for measure in measures}
    with_words = [score["wer"] for score in scores.values() if score.get("measure") == "wer"]
    return {"wer": fmean(with_words), **mean} if with_words else mean


def _normalised(utterances: list[ScoredUtterance], policy: str) -> list[ScoredUtterance]:
    return [
        replace(
            utterance,
            reference=normalise(utterance.reference, utterance.lang, policy),
            hypothesis=normalise(utterance.hypothesis, utterance.lang, policy),
        )
        for utterance in utterances
    ]


def _write_details(
    directory: Path, task: str, groups: Mapping[str, list[ScoredUtterance]], scores: Scores
) -> None:
    utterances = [utterance for of_key in groups.values() for utterance in of_key]
    if task == "asr":
        write_error_details(directory / "score_wer", utterances, lambda text, _: words_of(text))
        write_error_details(directory / "score_cer", utterances, characters_of)
    else:
        result = json.dumps(scores, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        write_translation_details(directory / "score_bleu", utterances, result)


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
) -> dict[str, list[ScoredUtterance]]:
    """Utterances by language or pair."""
    references = data.columns["text" if task == "asr" else "st_text"]
    groups: dict[str, list[ScoredUtterance]] = {}
    unknown = sorted(set(hypotheses) - set(references))
    if unknown:
        raise ScoringError(
            f"{where}: {len(unknown)} hypotheses are not in the data, such as {unknown[0]}"
        )
    for utterance in hypotheses:
        key = lang = data.columns["utt2lang"][utterance]
        if task == "st":
            lang = data.columns["utt2tgt"][utterance]
            key += f"-{lang}"
        if references[utterance] == NO_VALUE:
            raise ScoringError(f"{where}: {utterance} has a hypothesis but no reference")
        speaker = data.columns["utt2spk"][utterance]
        texts = references[utterance], hypotheses[utterance]
        groups.setdefault(key, []).append(ScoredUtterance(utterance, speaker, lang, *texts))
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


def _recognition(name: str, utterances: list[ScoredUtterance], check: bool) -> dict[str, Any]:
    lang = utterances[0].lang
    references = [utterance.reference for utterance in utterances]
    hypotheses = [utterance.hypothesis for utterance in utterances]
    empty = [utterance.utterance for utterance in utterances if not utterance.reference]
    if empty:
        raise ScoringError(
            f"{name}: expected words in every reference, found none in {len(empty)} after "
            f"normalisation, such as {empty[0]}; drop them (stage 4) or choose another "
            "--asr_text_policy"
        )
    words = word_errors(references, hypotheses)
    characters = character_errors(references, hypotheses, lang)
    measure = "cer" if lang in UNSPACED_LANGUAGES else "wer"
    score = {
        **{"wer": words.rate, "cer": characters.rate, "sentences": len(utterances)},
        **{"measure": measure, "error_rate": (words if measure == "wer" else characters).rate},
        **_counts(words, "words", ""),
        **_counts(characters, "characters", "character_"),
        "wrong_sentences": words.wrong_sentences,
    }
    if check:
        found = cross_check(name, references, hypotheses, lang, words, characters)
        score["splet"] = {measure: {**asdict(c), "rate": c.rate} for measure, c in found.items()}
    return score


def _counts(counts: ErrorCounts, tokens: str, prefix: str) -> dict[str, int]:
    return {
        tokens: counts.reference_tokens,
        f"{prefix}substitutions": counts.substitutions,
        f"{prefix}deletions": counts.deletions,
        f"{prefix}insertions": counts.insertions,
    }


def _translation(utterances: list[ScoredUtterance]) -> dict[str, Any]:
    references = [utterance.reference for utterance in utterances]
    hypotheses = [utterance.hypothesis for utterance in utterances]
    scores = asdict(score_translations(references, hypotheses, utterances[0].lang))
    return {name: value for name, value in scores.items() if value is not None}
