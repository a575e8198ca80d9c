# SPDX-License-Identifier: Apache-2.0
"""Which utterances a data directory keeps, and speed-perturbed copies."""

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_objsoup.data.datadir import NO_VALUE, DataDir, DataDirError
from espnet_objsoup.data.datadir_checks import MAX_SPEED, MIN_SPEED

CHOICES = ("random", "first", "last", "shortest")
GROUPS = {"lang": "utt2lang", "spk": "utt2spk"}


@dataclass(frozen=True)
class FilterReport:
    """How many utterances were kept and how long they are, and why the others were not."""

    kept: int
    too_short: int
    too_long: int
    without_label: int
    kept_s: float = 0.0

    def __str__(self) -> str:
        """One line for the log."""
        return (
            f"kept {self.kept} ({self.kept_s / 3600:.2f} h), dropped {self.too_short} too short, "
            f"{self.too_long} too long, {self.without_label} without transcript and translation"
        )


def filter_utterances(
    data: DataDir,
    min_duration_s: float,
    max_duration_s: float,
    sample_rate_hz: int,
    where: Path,
    keep_unlabelled: bool = False,
) -> tuple[DataDir, FilterReport]:
    """Drop utterances that are too short, too long or have no label.

    Args:
        data: what to choose from, with `utt2num_samples`.
        min_duration_s, max_duration_s: durations that are kept, both included.
        sample_rate_hz: rate of the audio.
        where: the directory, named in messages.
        keep_unlabelled: keep utterances without transcript and translation, as a self-supervised
            objective needs only audio.

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
    bare = set()
    if not keep_unlabelled:
        bare = {u for u in seconds if all(column[u] == NO_VALUE for column in labels)}
    dropped = short | long | bare
    kept = data.subset(lambda u: u not in dropped)
    if not kept.columns["utt2spk"]:
        raise DataDirError(
            f"{where}: expected utterances between {min_duration_s} and {max_duration_s} s with a "
            f"label, found none ({len(short)} are shorter, {len(long)} longer, {len(bare)} have no "
            "label); check --min_wav_duration, --max_wav_duration and --keep_unlabelled"
        )
    report = FilterReport(
        kept=len(kept.columns["utt2spk"]),
        too_short=len(short),
        too_long=len(long),
        without_label=len(bare - short - long),
        kept_s=sum(seconds[u] for u in kept.columns["utt2spk"]),
    )
    return kept, report


@dataclass(frozen=True)
class Selection:
    """Which utterances a subset has: those that meet all conditions, and of them so many.

    Attributes:
        number: how many; None: all.
        choose: which ones, `random`, `first`, `last` (in bytewise order) or `shortest`.
        per: `lang` or `spk`: at most `number` of each language or speaker; None: of all.
        seed: of the random choice.
        langs, speakers, utterances: those to choose from; None: all.
    """

    number: int | None = None
    choose: str = "random"
    per: str | None = None
    seed: int = 0
    langs: Collection[str] | None = None
    speakers: Collection[str] | None = field(default=None, repr=False)
    utterances: Collection[str] | None = field(default=None, repr=False)


def select(data: DataDir, selection: Selection, where: Path) -> DataDir:
    """A subset of a data directory.

    Args:
        data: what to choose from.
        selection: what to choose.
        where: the directory, named in messages.

    Raises:
        DataDirError: if there are no such utterances or too few; if `shortest` lacks
            `utt2num_samples`.
    """
    candidates = _candidates(data, selection)
    if not candidates:
        raise DataDirError(
            f"{where}: expected utterances of the languages, speakers or ids asked for, found "
            "none; check --langs, --spk_list and --utt_list"
        )
    if selection.number is None:
        chosen = set(candidates)
    else:
        _check_number(data, selection, len(candidates), where)
        groups: dict[str, list[str]] = {}
        column = GROUPS.get(selection.per or "")
        for utterance in candidates:
            group = "" if column is None else data.columns[column][utterance]
            groups.setdefault(group, []).append(utterance)
        generator = random.Random(selection.seed)
        chosen = set()
        for group in sorted(groups):
            chosen.update(_choose(data, selection, groups[group], generator))
    return data.subset(chosen.__contains__)


def _candidates(data: DataDir, selection: Selection) -> list[str]:
    wanted = [
        (selection.langs, data.columns["utt2lang"]),
        (selection.speakers, data.columns["utt2spk"]),
    ]
    candidates = data.utterances
    for values, column in wanted:
        if values is not None:
            candidates = [u for u in candidates if column[u] in values]
    if selection.utterances is not None:
        candidates = [u for u in candidates if u in selection.utterances]
    return candidates


def _check_number(data: DataDir, selection: Selection, available: int, where: Path) -> None:
    if selection.choose == "shortest" and "utt2num_samples" not in data.columns:
        raise DataDirError(
            f"{where}: utt2num_samples not found, by which the shortest are chosen; run "
            "format_audio (stage 3) first"
        )
    if selection.per is None and selection.number > available:
        raise DataDirError(
            f"{where}: expected at least {selection.number} utterances to choose from, found "
            f"{available}; ask for fewer"
        )


def _choose(
    data: DataDir, selection: Selection, utterances: list[str], generator: random.Random
) -> list[str]:
    number = min(selection.number, len(utterances))
    if selection.choose == "first":
        return utterances[:number]
    if selection.choose == "last":
        return utterances[-number:]
    if selection.choose == "shortest":
        samples = data.columns["utt2num_samples"]
        return sorted(utterances, key=lambda u: (int(samples[u]), u))[:number]
    return generator.sample(utterances, number)


def perturb_speed(data: DataDir, factors: Sequence[float]) -> DataDir:
    """A copy of every utterance per factor, ids and speakers prefixed `sp<factor>-`.

    Factor 1 keeps ids as they are. Audio is made by format_audio, from `utt2speed`; lengths, which
    change, are left out. Data that have `utt2speed` already are perturbed once more.

    Raises:
        ValueError: for a factor outside 0.5 .. 2 or one given twice (in six digits, as ids name
            them), or if none is given.
        DataDirError: if a copy would have the id of another utterance or recording.
    """
    known = all(MIN_SPEED <= factor <= MAX_SPEED for factor in factors)
    if not factors or len({f"{factor:g}" for factor in factors}) != len(factors) or not known:
        raise ValueError(
            f"factors: expected distinct factors between {MIN_SPEED:g} and {MAX_SPEED:g} (six "
            f"digits count), found {list(factors)}; correct --factors"
        )
    names = [name for name in data.columns if name not in ("utt2speed", "utt2num_samples")]
    before = data.columns.get("utt2speed", {})
    prefixes = {factor: "" if factor == 1.0 else f"sp{factor:g}-" for factor in factors}
    _refuse_shared_ids(data, list(prefixes.values()))
    result = DataDir({name: {} for name in (*names, "utt2speed")})
    for factor, prefix in prefixes.items():
        for name in names:
            column = result.columns[name]
            for key, value in data.columns[name].items():
                column[prefix + key] = _renamed(name, value, prefix)
        for utterance in data.columns["utt2spk"]:
            speed = factor * float(before.get(utterance, 1.0))
            result.columns["utt2speed"][prefix + utterance] = f"{speed:g}"
    return result


def _refuse_shared_ids(data: DataDir, prefixes: Sequence[str]) -> None:
    """Copies of `x` and of an utterance `sp0.9-x` can have one id; one of them would be lost."""
    problems = []
    for name, what in (("utt2spk", "utterances"), ("wav.scp", "recordings")):
        counts = Counter(prefix + key for prefix in prefixes for key in data.columns[name])
        shared = sorted(key for key, n in counts.items() if n > 1)
        if shared:
            problems.append(
                f"{name}: expected distinct ids of all copies, found {len(shared)} that copies of "
                f"two {what} would have (such as {shared[0]}); perturb the unperturbed data, or "
                "rename what begins with sp<factor>-"
            )
    if problems:
        raise DataDirError("\n".join(problems))


def _renamed(column: str, value: str, prefix: str) -> str:
    # Speakers and recordings get the prefix too; paths and texts stay.
    return prefix + value if column in ("utt2spk", "segments") else value
