# SPDX-License-Identifier: Apache-2.0
"""What an experiment's directory says: scores, utterances, updates, losses, conflicts."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from espnet_objsoup.comparison.counts import bleu_counts, error_counts, ngram_totals, pack, score_of
from espnet_objsoup.comparison.fingerprint import test_fingerprint
from espnet_objsoup.data.datadir import DataDir, read
from espnet_objsoup.evaluation.details import make_trn_id, read_trn
from espnet_objsoup.report.soup_history import FILE_NAME, ScanRecord, read_soup_history

_DETAILS = {"wer": "score_wer", "cer": "score_cer", "st": "score_bleu"}
_BATCH = re.compile(r"epoch (\d+)/\d+, batch \d+/(\d+):")
_VALID = re.compile(r"(\d+)epoch results: .*\[valid\] (.*)")
_LOSS = re.compile(r"\bloss_((?:asr|st)_[\w-]+)=([^,\s]+)")


class ExperimentError(ValueError):
    """An experiment's directory lacks what a finished one has."""


def updates_of(directory: Path) -> int:
    """Optimiser steps that a training took.

    Raises:
        ExperimentError: if its log does not say.
    """
    log = _log(directory)
    batches = {int(epoch): int(total) for epoch, total in _BATCH.findall(log)}
    if not batches:
        raise ExperimentError(
            f"{directory}/train.log: expected lines `epoch 1/9, batch 50/300: ...`, found none; "
            "log_interval is at most the number of batches"
        )
    return sum(batches.values())


def valid_losses(directory: Path) -> dict[str, list[float]]:
    """Losses of the labelled objectives on the development data.

    Plain, whatever weights were trained with.

    Returns:
        Objective, as ESPnet's log spells it (`asr_fr`) -> losses, epoch by epoch.

    Raises:
        ExperimentError: if the log does not say, or one of the last epoch is not finite.
    """
    losses: dict[str, list[float]] = {}
    for _, line in _VALID.findall(_log(directory)):
        for name, value in _LOSS.findall(line):
            losses.setdefault(name, []).append(float(value))
    if not losses or not all(math.isfinite(of_objective[-1]) for of_objective in losses.values()):
        raise ExperimentError(
            f"{directory}/train.log: expected finite losses such as loss_asr_fr of [valid], found "
            f"{losses or 'none'}"
        )
    return losses


def mean_last_loss(losses: Mapping[str, Sequence[float]]) -> float:
    """Mean over objectives of the last epoch's losses."""
    return fmean(of_objective[-1] for of_objective in losses.values())


def _log(directory: Path) -> str:
    try:
        return (directory / "train.log").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise ExperimentError(f"{directory}/train.log: expected the log, found none") from None


def scores_of(directory: Path, split: str) -> dict[str, dict[str, float]]:
    """Scores of every objective.

    Args:
        directory: of the experiment.
        split: name of the test set.

    Returns:
        `asr/fr` -> wer (or cer, where words have no spaces) and sentences; `st/fr-en` -> bleu,
        chrf, sentences.

    Raises:
        ExperimentError: if there are none.
    """
    path = directory / "scores.json"
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))[split]
    except (OSError, ValueError, KeyError) as err:
        raise ExperimentError(f"{path}: expected scores of {split}, found {err!r}") from err
    kept: dict[str, dict[str, float]] = {}
    for name, score in sorted(scores.items()):
        task, _, key = name.partition("/")
        if task in ("asr", "st") and key != "mean":
            measures = (score["measure"],) if task == "asr" else ("bleu", "chrf")
            kept[name] = {key: score[key] for key in (*measures, "sentences")}
    if not kept:
        raise ExperimentError(f"{path}: expected objectives, found none")
    return kept


def utterances_of(
    decode_dir: Path, dump_dir: Path, scores: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, str]]:
    """What every utterance adds to the scores.

    Args:
        decode_dir: `exp/T/decode_X/test`, scored.
        dump_dir: of the same set.
        scores: what `scores_of` gives, which the counts are held against.

    Returns:
        Objective -> `counts` (as packed by `pack`) and `test`, a checksum of what was scored.

    Raises:
        ExperimentError: if a file is missing, or the counts do not add up to the scores.
    """
    data = read(dump_dir)
    found = {}
    for name, score in scores.items():
        task, _, key = name.partition("/")
        measure = "st" if task == "st" else ("cer" if "cer" in score else "wer")
        ids, references, hypotheses = _texts(decode_dir / task / _DETAILS[measure], data, task, key)
        if task == "asr":
            counts = error_counts(references, hypotheses, key, measure)
        else:
            counts = bleu_counts(references, hypotheses, key.rpartition("-")[2])
        sums = score_of(task, counts.sum(0)[None], ngram_totals(counts).sum(0)[None])
        expected = score["bleu" if task == "st" else measure]
        if not np.allclose(sums, expected, atol=1e-6):
            raise ExperimentError(
                f"{decode_dir}: utterances of {name} add up to {sums[0]:.4f}, but its score is "
                f"{expected:.4f}; score again (stage 13)"
            )
        found[name] = {"test": test_fingerprint(ids, references), "counts": pack(counts)}
    return found


def _texts(
    directory: Path, data: DataDir, task: str, key: str
) -> tuple[list[str], list[str], list[str]]:
    """Ids, references and hypotheses of a language or pair, sorted by id."""
    joined = directory.name == _DETAILS["cer"]
    try:
        sides = [read_trn(directory / f"{side}.trn", joined) for side in ("ref", "hyp")]
    except FileNotFoundError as err:
        raise ExperimentError(f"{err.filename}: not found; score again (stage 13)") from err
    langs, targets = data.columns["utt2lang"], data.columns["utt2tgt"]
    of_key = {
        make_trn_id(speaker, utterance): utterance
        for utterance, speaker in data.columns["utt2spk"].items()
        if (langs[utterance] if task == "asr" else f"{langs[utterance]}-{targets[utterance]}")
        == key
    }
    ids = sorted(of_key.keys() & sides[0].keys(), key=lambda trn: of_key[trn])
    if not ids or sides[0].keys() != sides[1].keys():
        raise ExperimentError(
            f"{directory}: expected utterances of {task}/{key} in both .trn files"
        )
    references, hypotheses = ([side[trn] for trn in ids] for side in sides)
    return [of_key[trn] for trn in ids], references, hypotheses


def conflicts_of(directory: Path) -> dict[str, Any]:
    """What `soup.jsonl` tells of conflicts and of the soup.

    Returns:
        Empty without that file; otherwise `refreshes`, `conflict` (mean over refreshes of the share
        of pairs with a negative cosine), the last `coefficients`, and, where there were scans, for
        each of them `cosines`: pair -> layer -> cosine, and `scores`: layer -> mean cosine.

    Raises:
        ReportError: if the file is damaged.
    """
    path = directory / FILE_NAME
    if not path.exists():
        return {}
    history = read_soup_history(path)
    found: dict[str, Any] = {"refreshes": history.refreshes}
    rate = history.conflict_rate("all")
    if rate is not None:
        found["conflict"] = round(rate.tail_mean(1.0), 4)
    if history.refreshes:
        prefix = "soup_coefficient/"
        found["coefficients"] = {
            name: history.series[prefix + name].last for name in history.names(prefix)
        }
    if history.scans:
        found["scans"] = [_scan(scan) for scan in history.scans]
    return found


def _scan(scan: ScanRecord) -> dict[str, Any]:
    cosines = {}
    for i, first in enumerate(scan.objectives):
        for j, second in enumerate(scan.objectives[:i]):
            known = zip(scan.layers, scan.cosines[:, i, j].tolist(), strict=True)
            by_layer = {layer: round(value, 3) for layer, value in known if not math.isnan(value)}
            if by_layer:
                cosines[f"{second} {first}"] = by_layer
    return {
        "epoch": scan.epoch,
        "scores": _by_layer(scan.layers, scan.scores),
        "errors": _by_layer(scan.layers, scan.errors),
        "cosines": cosines,
    }


def _by_layer(layers: Sequence[str], values: np.ndarray) -> dict[str, float | None]:
    known = (None if math.isnan(value) else value for value in values.tolist())
    return dict(zip(layers, known, strict=True))
