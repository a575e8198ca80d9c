# SPDX-License-Identifier: Apache-2.0
"""What is known of corpora and GPUs, and from where; nothing here was measured by this project."""

from collections.abc import Mapping
from dataclasses import dataclass

from espnet_objsoup.data.corpora.sources import CORPORA as SOURCES

# 16 kHz, 16 bit.
PCM_BYTES_PER_HOUR = 16000 * 2 * 3600
# LibriSpeech's archives (60.4 GB of flac, next to nothing of it text) over its 982 hours of PCM.
FLAC_RATIO = 0.53
# Clips of Common Voice are mp3 of 64 kbit/s.
MP3_BYTES_PER_HOUR = 64000 // 8 * 3600


@dataclass(frozen=True)
class Facts:
    """A recipe's corpus.

    Attributes:
        hours: training speech by language.
        eval_hours: development and test speech together.
        utterances: of training.
        longest_s: longest training utterance that stage 4 lets through.
        tokens_per_second: of transcripts, with the recipe's vocabulary; an assumption.
        vocabulary: tokens.
        pairs: translations.
        raw: format of the corpus: flac, wav or mp3.
        source: of hours and utterances.
    """

    hours: Mapping[str, float]
    eval_hours: float
    utterances: int
    longest_s: float
    tokens_per_second: float
    vocabulary: int
    pairs: tuple[str, ...]
    raw: str
    source: str

    @property
    def train_hours(self) -> float:
        """Of all languages."""
        return sum(self.hours.values())

    @property
    def mean_s(self) -> float:
        """Mean duration of a training utterance in seconds."""
        return self.train_hours * 3600 / self.utterances

    def objectives(self) -> list[str]:
        """Labelled objectives."""
        return [f"asr/{lang}" for lang in self.hours] + [f"st/{pair}" for pair in self.pairs]


FACTS = {
    "covost2": Facts(
        hours={"en": 430, "fr": 264, "de": 184, "es": 113, "ca": 136},
        # About 22 hours each of development and test per language.
        eval_hours=5 * 44,
        utterances=289430 + 207374 + 127834 + 79015 + 95854,
        longest_s=20,
        tokens_per_second=4.0,
        vocabulary=5000,
        pairs=("fr-en", "de-en", "es-en", "ca-en"),
        raw="mp3",
        source="Wang, Wu, Pino, arXiv 2007.10310 (train and train_covost)",
    ),
    "librispeech": Facts(
        hours={"en": 960.9},
        eval_hours=5.4 + 5.3 + 5.4 + 5.1,
        utterances=281241,
        longest_s=30,
        tokens_per_second=4.0,
        vocabulary=5000,
        pairs=(),
        raw="flac",
        source="Panayotov, Chen, Povey, Khudanpur, ICASSP 2015",
    ),
    "aishell": Facts(
        hours={"zh": 150},
        eval_hours=18 + 10,
        utterances=120098,
        longest_s=15,
        tokens_per_second=3.5,
        vocabulary=4235,
        pairs=(),
        raw="wav",
        source="Bu, Du, Na, Wu, Zheng, O-COCOSDA 2017",
    ),
}


@dataclass(frozen=True)
class GPU:
    """A card.

    Attributes:
        name: of the product.
        memory_gib: in all.
        peak_tflops: dense products in half precision with sums in float32, by its data sheet.
    """

    name: str
    memory_gib: float
    peak_tflops: float


GPUS = {
    24: GPU("RTX 3090, 24 GB", 24, 71),
    40: GPU("A100, 40 GB", 40, 312),
    80: GPU("H100 SXM, 80 GB", 80, 989),
}


@dataclass(frozen=True)
class Disk:
    """Space in bytes.

    Attributes:
        raw: the corpus, unpacked.
        dump: audio that stage 3 writes.
        experiment: checkpoints of one training.
    """

    raw: float
    dump: float
    experiment: float


def disk(recipe: str, parameters: int, kept_models: int, speeds: int = 1) -> Disk:
    """Space that a recipe takes.

    Args:
        recipe: name in FACTS.
        parameters: of the model.
        kept_models: `keep_nbest_models`.
        speeds: number of speed perturbation factors (1: none).
    """
    facts = FACTS[recipe]
    flac = FLAC_RATIO * PCM_BYTES_PER_HOUR
    if facts.raw == "mp3":
        raw = (facts.train_hours + facts.eval_hours) * MP3_BYTES_PER_HOUR
    else:
        corpus = SOURCES[recipe]
        raw = sum(a.size_bytes * a.unpacked_ratio for a in corpus.select(()))
    # Flac at the recipe's rate is used where it is, unless the speed changes.
    if facts.raw == "flac":
        written = (speeds - 1) * facts.train_hours
    else:
        written = speeds * facts.train_hours + facts.eval_hours
    # The best models, the latest one, the average; a checkpoint with Adam's two averages.
    models = (kept_models + 2) * 4 * parameters + 12 * parameters
    return Disk(raw, written * flac, models)
