# SPDX-License-Identifier: Apache-2.0
"""Batches that mix languages in fixed proportions and hold utterances of similar length.

Every language's utterances are sorted by length and cut into units of a few neighbours. Units of
all languages are merged by their rank within their language, so that a stretch of the merged list
holds every language in its share and at the same quantile of length; stretches become batches.
With several processes a unit is dealt out evenly: every process sees every language of a batch.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from espnet2.samplers.abs_sampler import AbsSampler

# Pairs of different utterances of an objective are what its gradient's norm is estimated from.
UTTERANCES_PER_LANGUAGE = 2
# Epochs that are tried to find the number of batches that all epochs have.
_TRIAL_SEEDS = (0, 1, 2)
# A batch may exceed its limit by this factor before an epoch is given another batch instead.
_MOST_EXCESS = 1.2


class SamplerError(ValueError):
    """`sampler_conf` or the data does not allow batches to be made."""


@dataclass(frozen=True)
class SamplerOptions:
    """`sampler_conf` of a YAML.

    Attributes:
        temperature: T >= 1; languages are drawn with probability ~ n ** (1 / T), n being their
            numbers of utterances. 1 keeps the data's proportions, a large one makes them equal.
            No utterance is left out: small languages are repeated instead.
        max_repeats: how often an utterance occurs in an epoch at most.
        languages_per_batch: languages in one batch; None: all.
        length_jitter: lengths are multiplied by a random number within 1 +- this before sorting, so
            that neighbours change from epoch to epoch.
    """

    temperature: float = 1.0
    max_repeats: float = 10.0
    languages_per_batch: int | None = None
    length_jitter: float = 0.1

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            SamplerError: naming the key.
        """
        for key, low in (("temperature", 1.0), ("max_repeats", 1.0), ("length_jitter", 0.0)):
            value = getattr(self, key)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not low <= value < math.inf:
                raise SamplerError(
                    f"sampler_conf.{key}: expected a number >= {low:g}, found {value!r}"
                )
        if self.length_jitter >= 1.0:
            raise SamplerError(
                f"sampler_conf.length_jitter: expected a number below 1, found {self.length_jitter}"
            )
        count = self.languages_per_batch
        whole = isinstance(count, int) and not isinstance(count, bool)
        if count is not None and not (whole and count >= 1):
            raise SamplerError(
                f"sampler_conf.languages_per_batch: expected a whole number >= 1 or null, found "
                f"{count!r}"
            )

    @classmethod
    def from_dict(cls, conf: Mapping[str, Any] | None) -> "SamplerOptions":
        """Options of a YAML block.

        Raises:
            SamplerError: for unknown keys, with the known ones, and for wrong values.
        """
        if conf is not None and not isinstance(conf, Mapping):
            raise SamplerError(f"sampler_conf: expected a mapping, found {conf!r}")
        known = [f.name for f in fields(cls)]
        unknown = sorted(str(key) for key in conf or {} if key not in known)
        if unknown:
            raise SamplerError(
                f"sampler_conf: unknown key {', '.join(unknown)}; known keys: {', '.join(known)}"
            )
        return cls(**(conf or {}))


@dataclass(frozen=True)
class BatchLimit:
    """How large a batch may be, all processes together.

    Attributes:
        bins: padded samples (utterances times the longest), None: no limit.
        utterances: number of utterances, None: no limit.
    """

    bins: int | None = None
    utterances: int | None = None

    def allows(self, utterances: int, longest: int) -> bool:
        """Whether a batch of so many utterances, padded to the longest, is within the limit."""
        within_bins = self.bins is None or utterances * longest <= self.bins
        return within_bins and (self.utterances is None or utterances <= self.utterances)

    def scaled(self, factor: float) -> "BatchLimit":
        """A wider limit."""
        return BatchLimit(*(None if x is None else int(x * factor) for x in vars(self).values()))


# Utterances (indices) of one language that go into one batch together.
Unit = np.ndarray


class LanguageSampler(AbsSampler):
    """Language-stratified, length-aware batches.

    `generate(seed)` depends on the seed alone, so that an epoch can be made again when training
    resumes, and every process makes its own share of the same batches. All epochs have the same
    number of batches.

    Args:
        lengths: utterance -> length in samples.
        languages: utterance -> spoken language; may hold more utterances than `lengths`.
        limit: of a batch over all processes, as ESPnet's `batch_bins` and `batch_size`.
        options: of the sampler.
        rank: this process.
        world_size: number of processes.
        multiple: the number of batches is rounded up to a multiple of this, so that no gradient
            accumulation is cut short at the end of an epoch.

    Raises:
        SamplerError: if there is no utterance, an utterance without a language, or a limit in which
            not even two utterances of a language find room.
    """

    def __init__(
        self,
        lengths: Mapping[str, int],
        languages: Mapping[str, str],
        limit: BatchLimit,
        options: SamplerOptions | None = None,
        rank: int = 0,
        world_size: int = 1,
        multiple: int = 1,
    ) -> None:
        self.options = options or SamplerOptions()
        self.limit = limit
        self.rank, self.world_size = rank, world_size
        self.keys = np.array(sorted(lengths, key=str.encode), dtype=object)
        if len(self.keys) == 0:
            raise SamplerError("training data: expected at least one utterance, found none")
        self._check(lengths, languages)
        self.lengths = np.array([lengths[key] for key in self.keys], dtype=np.int64)
        self.by_language = _group(self.keys, languages)
        self._language_of = {key: languages[key] for key in self.keys}
        self.epoch_sizes = self._epoch_sizes()
        self._check_bins()
        trials = max(len(self._cut(self._streams(seed), limit)) for seed in _TRIAL_SEEDS)
        # One more than was needed in the trials: the number must hold for every epoch.
        self.n_batches = math.ceil((trials + 1) / multiple) * multiple
        # With very little data batches are used twice, so that this differs from `epoch_sizes`.
        self._used = self._count_used()

    def _check(self, lengths: Mapping[str, int], languages: Mapping[str, str]) -> None:
        missing = [key for key in self.keys if key not in languages]
        if missing:
            raise SamplerError(
                f"training data: expected a language (utt2lang) for every utterance, found none "
                f"for {len(missing)}, such as {missing[0]}"
            )
        smallest = self._unit_size
        if self.limit.utterances is not None and self.limit.utterances < smallest:
            raise SamplerError(
                f"batch_size: expected at least {smallest}, {UTTERANCES_PER_LANGUAGE} utterances "
                f"of a language on each of {self.world_size} processes, found "
                f"{self.limit.utterances}"
            )

    def _check_bins(self) -> None:
        """Refuse a limit that the utterances of a usual length cannot keep to."""
        if self.limit.bins is None:
            return
        median = int(np.median(self.lengths))
        if self._unit_size * median > self.limit.bins:
            raise SamplerError(
                f"batch_bins: expected at least {self._unit_size * median}, room for "
                f"{self._unit_size} utterances of the median length {median}, found "
                f"{self.limit.bins}"
            )

    def oversized(self) -> dict[str, int]:
        """Utterances, with their lengths, of which a unit does not fit a batch; longest first."""
        if self.limit.bins is None:
            return {}
        rows = np.flatnonzero(self._unit_size * self.lengths > self.limit.bins)
        rows = rows[np.argsort(-self.lengths[rows], kind="stable")]
        return {self.keys[i]: int(self.lengths[i]) for i in rows}

    @property
    def _unit_size(self) -> int:
        return UTTERANCES_PER_LANGUAGE * self.world_size

    def _epoch_sizes(self) -> dict[str, int]:
        """Utterances of every language in an epoch, repetitions included."""
        exponent = 1.0 / self.options.temperature - 1.0
        rates = {lang: len(rows) ** exponent for lang, rows in self.by_language.items()}
        least = min(rates.values())
        sizes = {}
        for lang, rows in self.by_language.items():
            wanted = round(len(rows) * min(rates[lang] / least, self.options.max_repeats))
            # Whole units where utterances are repeated: a surplus could hold one of them twice.
            whole = wanted // self._unit_size * self._unit_size
            sizes[lang] = max(len(rows), whole, self._unit_size)
        return sizes

    def _count_used(self) -> dict[str, float]:
        """Utterances of every language in an epoch, as it is in the end."""
        used = dict.fromkeys(self.by_language, 0.0)
        for batch in self.global_batches(_TRIAL_SEEDS[0]):
            for unit in batch:
                used[self._language_of[self.keys[unit[0]]]] += len(unit)
        return used

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        """Batches of seed 0."""
        return iter(self.generate(0))

    def __repr__(self) -> str:
        """What ESPnet logs."""
        return (
            f"{type(self).__name__}(N-batch={len(self)}, {self.limit}, {self.options}, "
            f"process {self.rank + 1} of {self.world_size})"
        )

    def generate(self, seed: int) -> list[tuple[str, ...]]:
        """This process' batches of an epoch, longest utterance first in each."""
        return [self._share(batch, i) for i, batch in enumerate(self.global_batches(seed))]

    def global_batches(self, seed: int) -> list[list[Unit]]:
        """Batches of an epoch over all processes, as units of indices into `keys`."""
        streams = self._streams(seed)
        batches = self._cut(streams, self.limit)
        factor = 1.0
        while len(batches) > self.n_batches and factor < _MOST_EXCESS:
            # Lengths fell less favourably than in any trial; a little more padding is the price of
            # a constant number of batches.
            factor += 0.01
            batches = self._cut(streams, self.limit.scaled(factor))
        return self._split_up(batches)

    def _share(self, batch: list[Unit], turn: int) -> tuple[str, ...]:
        # The first process in the row gets the surplus of a unit; everyone is first in turn.
        parts = [
            unit[(self.rank + turn + i) % self.world_size :: self.world_size]
            for i, unit in enumerate(batch)
        ]
        rows = np.concatenate(parts)
        return tuple(self.keys[rows[np.argsort(-self.lengths[rows], kind="stable")]])

    def _streams(self, seed: int) -> list[list[Unit]]:
        """Units in the order in which batches take them; a batch never spans two streams."""
        draw = np.random.default_rng(np.random.SeedSequence([seed, len(self.keys)]))
        units = {lang: self._units(lang, draw) for lang in self.by_language}
        count = self.options.languages_per_batch
        if count is None or count >= len(units):
            return [_merge(units, draw)]
        streams = []
        # Every part of the data meets the languages in other company.
        n_parts = max(1, min(len(units), min(map(len, units.values())) // 4))
        for part in range(n_parts):
            langs = draw.permutation(sorted(units))
            for i in range(0, len(langs), count):
                group = {lang: units[lang][part::n_parts] for lang in langs[i : i + count]}
                streams.append(_merge(group, draw))
        return streams

    def _units(self, lang: str, draw: np.random.Generator) -> list[Unit]:
        rows = self.by_language[lang]
        jitter = 1.0 + self.options.length_jitter * draw.uniform(-1.0, 1.0, len(rows))
        ordered = rows[np.argsort(self.lengths[rows] * jitter, kind="stable")]
        sequence = self._repeat(lang, ordered, draw)
        return np.array_split(sequence, len(sequence) // self._unit_size)

    def _repeat(self, lang: str, ordered: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """Repeat utterances, copies being far apart but among others of their length."""
        n, wanted = len(ordered), self.epoch_sizes[lang]
        if wanted == n:
            return ordered
        stretches = np.array_split(ordered, max(1, n // self._stretch(lang)))
        ends = np.cumsum([len(stretch) for stretch in stretches]) * (wanted / n)
        # Rounded by a threshold that changes, so that no stretch is always favoured.
        ends[:-1] = np.floor(ends[:-1] + draw.random())
        totals = np.diff(ends, prepend=0).round().astype(int)
        # Going round in a shuffled stretch, an utterance comes back after all others of it.
        return np.concatenate(
            [
                np.resize(draw.permutation(stretch), total)
                for stretch, total in zip(stretches, totals, strict=True)
            ]
        )

    def _stretch(self, lang: str) -> int:
        """Neighbours that are all used once before one of them is used again."""
        total = sum(
            self.epoch_sizes[name] * self.lengths[rows].mean()
            for name, rows in self.by_language.items()
        )
        batches = 1.0
        if self.limit.bins is not None:
            batches = total / self.limit.bins
        if self.limit.utterances is not None:
            batches = max(batches, sum(self.epoch_sizes.values()) / self.limit.utterances)
        per_batch = self.epoch_sizes[lang] / max(batches, 1.0)
        # Batches of short utterances hold more than the average.
        return max(4 * self._unit_size, math.ceil(3 * per_batch))

    def _cut(self, streams: list[list[Unit]], limit: BatchLimit) -> list[list[Unit]]:
        batches: list[list[Unit]] = []
        for stream in streams:
            batch: list[Unit] = []
            inside: set[int] = set()
            size = longest = 0
            for unit in stream:
                members, length = unit.tolist(), int(self.lengths[unit].max())
                fits = limit.allows(size + len(unit), max(longest, length))
                if batch and not (fits and inside.isdisjoint(members)):
                    batches.append(batch)
                    batch, inside, size, longest = [], set(), 0, 0
                batch.append(unit)
                inside.update(members)
                size, longest = size + len(unit), max(longest, length)
            if batch:
                batches.append(batch)
        return batches

    def _split_up(self, batches: list[list[Unit]]) -> list[list[Unit]]:
        """Halve the largest batches until there are `n_batches`."""
        for spare in range(self.n_batches - len(batches)):
            widest = max(range(len(batches)), key=lambda i: len(batches[i]))
            units = batches[widest]
            if len(units) == 1:
                # Too little data for that many batches: some are used twice.
                batches.append(batches[spare])
            else:
                middle = len(units) // 2
                batches[widest : widest + 1] = [units[:middle], units[middle:]]
        return batches

    def per_batch(self, members: Iterable[str]) -> float:
        """Expected number of certain utterances in a batch, over all processes.

        Args:
            members: ids of the utterances, such as those of an objective.
        """
        held = Counter(self._language_of[key] for key in set(members) & self._language_of.keys())
        # In a fixed order: every process and every resumed run has to get the same bits.
        expected = sum(
            held[lang] / len(rows) * self._used[lang] for lang, rows in self.by_language.items()
        )
        return expected / self.n_batches

    def summary(self) -> str:
        """A table for the log: what an epoch holds."""
        lines = [
            f"  {lang}: {len(rows)} utterances, {self.epoch_sizes[lang] / len(rows):.2f} times an "
            f"epoch, {self._used[lang] / self.n_batches:.1f} per batch"
            for lang, rows in self.by_language.items()
        ]
        return f"{self.n_batches} batches an epoch, all processes together:\n" + "\n".join(lines)


def _group(keys: np.ndarray, languages: Mapping[str, str]) -> dict[str, np.ndarray]:
    rows: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        rows.setdefault(languages[key], []).append(i)
    return {lang: np.array(rows[lang]) for lang in sorted(rows)}


def _merge(units: Mapping[str, list[Unit]], draw: np.random.Generator) -> list[Unit]:
    """Units of several languages by their rank within their own."""
    ranked = [
        ((i + draw.random()) / len(of_lang), unit)
        for of_lang in units.values()
        for i, unit in enumerate(of_lang)
    ]
    return [unit for _, unit in sorted(ranked, key=lambda pair: pair[0])]
