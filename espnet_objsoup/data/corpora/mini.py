# SPDX-License-Identifier: Apache-2.0
"""A small synthetic corpus in the exact layouts of real ones.

Sentences come from a grammar, speech from eSpeak NG: everything is made offline and is the same
on every run. Layouts: Common Voice 4 with CoVoST 2, LibriSpeech, AISHELL-1.
"""

import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_objsoup.data.languages import CORPUS_CODES
from espnet_objsoup.data.parallel import map_jobs
from espnet_objsoup.data.synthesis.lexicon import load_lexicon
from espnet_objsoup.data.synthesis.linearise import LANGUAGES, linearise
from espnet_objsoup.data.synthesis.recording import Clip, Shard, record_shard
from espnet_objsoup.data.synthesis.sentences import SentenceSampler, split_of
from espnet_objsoup.data.synthesis.voices import Speaker, make_speakers

LAYOUTS = ("covost2", "librispeech", "aishell")
SPLITS = ("train", "dev", "test")


class MiniCorpusError(ValueError):
    """Something that the mini corpus does not have was asked for."""


@dataclass(frozen=True)
class Size:
    """How much of what.

    Attributes:
        lexicon: `small` or `full`.
        utterances: per language, in train, dev, test.
        speakers: per language, in train, dev, test.
        max_words: longest sentence, in English words.
        snr_db: range of the signal-to-noise ratio.
        langs: languages with recognition.
        pairs: translations.
    """

    lexicon: str
    utterances: tuple[int, int, int]
    speakers: tuple[int, int, int]
    max_words: int
    snr_db: tuple[float, float]
    langs: tuple[str, ...]
    pairs: tuple[str, ...]


SIZES = {
    "tiny": Size(
        "small", (250, 24, 24), (20, 4, 6), 7, (25.0, 40.0), ("en", "fr", "de"), ("fr-en", "de-en")
    ),
    # For comparisons of soups: a model of 6 minutes gets past its start and does not learn the data
    # by heart, and there are enough test utterances for differences to show.
    "compare": Size(
        "small",
        (4000, 60, 200),
        (160, 6, 8),
        7,
        (20.0, 40.0),
        ("en", "fr", "de"),
        ("fr-en", "de-en"),
    ),
    "default": Size(
        "small",
        (1700, 60, 100),
        (60, 4, 6),
        9,
        (20.0, 40.0),
        ("en", "fr", "de", "es"),
        ("fr-en", "de-en", "es-en"),
    ),
    "large": Size(
        "full",
        (6000, 200, 400),
        (120, 8, 12),
        13,
        (12.0, 40.0),
        LANGUAGES,
        ("fr-en", "de-en", "es-en", "ca-en", "zh-en", "en-de", "en-zh"),
    ),
}
_MIN_WORDS = 4


@dataclass
class Plan:
    """Files of tables and shards of audio, all paths relative to the corpus."""

    tables: dict[str, list[str]] = field(default_factory=dict)
    shards: list[Shard] = field(default_factory=list)

    def line(self, path: str, *fields: str, separator: str = "\t") -> None:
        """Add a line to a table."""
        self.tables.setdefault(path, []).append(separator.join(fields))


@dataclass(frozen=True)
class MiniCorpus:
    """What is made where.

    Attributes:
        root: directory of the corpus.
        size: how much.
        langs: languages of the Common Voice layout.
        pairs: (source, target) with `covost_v2.*.tsv`.
        layouts: some of LAYOUTS.
    """

    root: Path
    size: Size
    langs: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    layouts: tuple[str, ...] = ("covost2",)

    def __post_init__(self) -> None:
        """Raises MiniCorpusError for languages, pairs or layouts that do not exist."""
        known = ", ".join(LANGUAGES)
        for lang in {*self.langs, *(code for pair in self.pairs for code in pair)}:
            if lang not in LANGUAGES:
                raise MiniCorpusError(f"language: expected some of {known}, found {lang!r}")
        for source, target in self.pairs:
            if "en" not in (source, target) or source == target:
                raise MiniCorpusError(
                    f"pair {source}-{target}: CoVoST 2 translates from or into en only"
                )
        for layout in self.layouts:
            if layout not in LAYOUTS:
                raise MiniCorpusError(
                    f"layout: expected some of {', '.join(LAYOUTS)}, found {layout!r}"
                )

    def plan(self) -> Plan:
        """Everything that has to be written."""
        plan = Plan()
        makers = {"covost2": _plan_covost2, "librispeech": _plan_librispeech}
        makers["aishell"] = _plan_aishell
        for layout in self.layouts:
            makers[layout](self, plan)
        return plan

    def make(self, n_jobs: int) -> tuple[int, float]:
        """Write the corpus; what is there already is kept.

        Returns:
            Number of clips and hours of audio.
        """
        plan = self.plan()
        there = [shard.recorded_seconds() for shard in plan.shards]
        missing = [shard for shard, done in zip(plan.shards, there, strict=True) if done is None]
        results = map_jobs(record_shard, missing, n_jobs, "synthesise speakers", fresh_process=True)
        seconds = sum(results) + sum(done or 0.0 for done in there)
        for path, lines in plan.tables.items():
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(target.name + ".tmp")
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            os.replace(temporary, target)
        return sum(len(shard.clips) for shard in plan.shards), seconds / 3600

    def shard(
        self, lang: str, speaker: Speaker, clips: Sequence[Clip], sample_rate_hz: int
    ) -> Shard:
        """A shard in this corpus."""
        return Shard(str(self.root), lang, speaker, tuple(clips), sample_rate_hz, self.size.snr_db)


def sentences(
    size: Size, seed_name: str, split: str, count: int, langs: Sequence[str]
) -> list[dict[str, str]]:
    """Distinct sentences of a split.

    Args:
        size: gives lexicon and longest sentence.
        seed_name: decides which sentences are drawn.
        split: train, dev or test.
        count: how many.
        langs: languages to express each in.

    Returns:
        Dicts language -> text.
    """
    sampler = SentenceSampler(load_lexicon(size.lexicon), zlib.crc32(seed_name.encode()))
    seen: set[str] = set()
    chosen: list[dict[str, str]] = []
    for meaning in sampler:
        if len(chosen) == count:
            return chosen
        english = linearise(meaning, "en")
        words = len(english.split())
        if english in seen or not _MIN_WORDS <= words <= size.max_words:
            continue
        if split_of(meaning) == split:
            seen.add(english)
            chosen.append({lang: linearise(meaning, lang) for lang in langs})
    raise AssertionError("the sampler is endless")


def _by_speaker(
    size: Size, lang: str, split: str, langs: Sequence[str], seed_name: str
) -> Iterator[tuple[int, Speaker, list[dict[str, str]]]]:
    index = SPLITS.index(split)
    texts = sentences(size, seed_name, split, size.utterances[index], langs)
    speakers = make_speakers(seed_name, split, size.speakers[index])
    for i, speaker in enumerate(speakers):
        yield i, speaker, texts[i :: len(speakers)]


_CLIP_HEADER = (
    "client_id",
    "path",
    "sentence",
    "up_votes",
    "down_votes",
    "age",
    "gender",
    "accent",
)


def _plan_covost2(corpus: MiniCorpus, plan: Plan) -> None:
    for lang in dict.fromkeys([*corpus.langs, *(source for source, _ in corpus.pairs)]):
        code = CORPUS_CODES.get(lang, lang)
        root = f"commonvoice/{code}"
        targets = [target for source, target in corpus.pairs if source == lang]
        for table in ("validated", *SPLITS):
            plan.line(f"{root}/{table}.tsv", *_CLIP_HEADER)
        pair_files = {t: f"covost2/covost_v2.{code}_{CORPUS_CODES.get(t, t)}.tsv" for t in targets}
        for path in pair_files.values():
            plan.line(path, "path", "translation", "split")
        number = 17_000_000 + 100_000 * LANGUAGES.index(lang)
        for split in SPLITS:
            for _, speaker, texts in _by_speaker(corpus.size, lang, split, [lang, *targets], lang):
                clips = []
                gender = {"M": "male", "F": "female"}[speaker.sex]
                for text in texts:
                    number += 1
                    name = f"common_voice_{code}_{number}.mp3"
                    row = (speaker.speaker, name, text[lang], "2", "0", "", gender, "")
                    for table in ("validated", split):
                        plan.line(f"{root}/{table}.tsv", *row)
                    for target, path in pair_files.items():
                        plan.line(path, name, text[target], split)
                    clips.append(Clip(text[lang], f"{root}/clips/{name}"))
                plan.shards.append(corpus.shard(lang, speaker, clips, 48000))


_LIBRISPEECH_PARTS = {
    "train-clean-100": "train",
    "dev-clean": "dev",
    "dev-other": "dev",
    "test-clean": "test",
    "test-other": "test",
}


def _plan_librispeech(corpus: MiniCorpus, plan: Plan) -> None:
    table = "LibriSpeech/SPEAKERS.TXT"
    plan.line(table, "; ID  |SEX| SUBSET           |MINUTES| NAME")
    for part, (name, split) in enumerate(_LIBRISPEECH_PARTS.items()):
        for i, speaker, texts in _by_speaker(corpus.size, "en", split, ["en"], name):
            reader, chapter = 1000 * (part + 1) + i, 120_000 + 1000 * part + i
            folder = f"LibriSpeech/{name}/{reader}/{chapter}"
            clips = []
            for j, text in enumerate(texts):
                utterance = f"{reader}-{chapter}-{j:04d}"
                words = re.sub(r"[.,]", "", text["en"]).upper()
                plan.line(f"{folder}/{reader}-{chapter}.trans.txt", utterance, words, separator=" ")
                clips.append(Clip(text["en"], f"{folder}/{utterance}.flac"))
            plan.line(
                table, f"{reader:<5}", f" {speaker.sex} ", f" {name:<17}", " 1.00  ", " eSpeak NG",
                separator="|",
            )  # fmt: skip
            plan.shards.append(corpus.shard("en", speaker, clips, 16000))


def _plan_aishell(corpus: MiniCorpus, plan: Plan) -> None:
    first_speaker = {"train": 2, "dev": 724, "test": 764}
    table = "data_aishell/transcript/aishell_transcript_v0.8.txt"
    for split in SPLITS:
        for i, speaker, texts in _by_speaker(corpus.size, "zh", split, ["zh"], "aishell"):
            name = f"S{first_speaker[split] + i:04d}"
            clips = []
            for j, text in enumerate(texts):
                utterance = f"BAC009{name}W{121 + j:04d}"
                # The corpus separates words by spaces; readers remove them.
                words = " ".join(re.sub("[。，]", "", text["zh"]))
                plan.line(table, utterance, words, separator=" ")
                clips.append(Clip(text["zh"], f"data_aishell/wav/{split}/{name}/{utterance}.wav"))
            plan.shards.append(corpus.shard("zh", speaker, clips, 16000))
