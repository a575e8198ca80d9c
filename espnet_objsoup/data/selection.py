# SPDX-License-Identifier: Apache-2.0
"""Which utterances a data directory keeps, and speed-perturbed copies."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_objsoup.data.datadir import NO_VALUE, DataDir, DataDirError


@dataclass(frozen=True)
class FilterReport:
    """How many utterances were kept, and why the others were not."""

    kept: int
    too_short: int
    too_long: int
    without_label: int

    def __str__(self) -> str:
        """One line for the log."""
        return (
            f"kept {self.kept}, dropped {self.too_short} too short, {self.too_long} too long, "
            f"{self.without_label} without transcript and translation"
        )


def filter_utterances(
    data: DataDir, min_duration_s: float, max_duration_s: float, sample_rate_hz: int, where: Path
) -> tuple[DataDir, FilterReport]:
    """Drop utterances that are too short, too long or have no label.

    Raises:
        DataDirError: without `utt2num_samples`, or if nothing is left.
    """
    samples = data.columns.get("utt2num_samples")
    if samples is None:
        raise DataDirError(f"{where}: utt2num_samples not found; run format_audio (stage 3) first")
    seconds = {utterance: int(n) / sample_rate_hz for utterance, n in samples.items()}
    short = {u for u, s in seconds.items() if s < min_duration_s}
    long = {u for u, s in seconds.items() if s > max_duration_s}
    labels = (data.columns["text"], data.columns["st_text"])
    bare = {u for u in seconds if all(column[u] == NO_VALUE for column in labels)}
    kept = data.subset(lambda u: u not in short | long | bare)
    if not kept.columns["utt2spk"]:
        raise DataDirError(
            f"{where}: no utterance lasts between {min_duration_s} and {max_duration_s} s and has "
            "a label; check --min_wav_duration and --max_wav_duration"
        )
    report = FilterReport(
        len(kept.columns["utt2spk"]), len(short), len(long), len(bare - short - long)
    )
    return kept, report


def perturb_speed(data: DataDir, factors: Sequence[float]) -> DataDir:
    """A copy of every utterance per factor, ids and speakers prefixed `sp<factor>-`.

    Factor 1 keeps ids as they are. Audio is made by format_audio, from `utt2speed`.

    Raises:
        ValueError: for a factor outside 0.5 .. 2 or one given twice.
    """
    if len(set(factors)) != len(factors) or not all(0.5 <= f <= 2.0 for f in factors):
        raise ValueError(
            f"speed_perturb_factors: expected distinct factors between 0.5 and 2, found {factors}"
        )
    result = DataDir({name: {} for name in (*data.columns, "utt2speed")})
    for factor in factors:
        prefix = "" if factor == 1.0 else f"sp{factor:g}-"
        for name, column in data.columns.items():
            for key, value in column.items():
                result.columns[name][prefix + key] = _renamed(name, value, prefix)
        for utterance in data.columns["utt2spk"]:
            result.columns["utt2speed"][prefix + utterance] = f"{factor:g}"
    return result


def _renamed(column: str, value: str, prefix: str) -> str:
    # Speakers and recordings get the prefix too; paths and texts stay.
    return prefix + value if column in ("utt2spk", "segments") else value
