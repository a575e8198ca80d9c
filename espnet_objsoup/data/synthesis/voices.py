# SPDX-License-Identifier: Apache-2.0
"""Synthetic speakers: an eSpeak voice variant with a pitch and a rate of its own.

Whole variants are reserved for development and test, so their speakers are new voices. Variants
whose sound depends on a clock-seeded generator (f2 f3 f5 Alicia sandro victor whisper whisperf
Demonic) are never used.
"""

import hashlib
import random
from dataclasses import dataclass

_VARIANTS = {
    "train": {
        "M": (
            "m1 m2 m4 m5 m6 m8 Alex Diogo Gene Marco Michael Mike Reed adam antonio boris david "
            "ed edward gustave iven john max miguel pablo paul quincy rob robert travis"
        ).split(),
        "F": "f1 Andrea anika aunty belinda shelby steph2 steph3 zac".split(),
    },
    "dev": {"M": ["m7", "Lee"], "F": ["linda", "steph"]},
    "test": {"M": ["m3", "Andy", "benjamin"], "F": ["f4", "Annie", "caleb"]},
}


@dataclass(frozen=True)
class Speaker:
    """A voice.

    Attributes:
        speaker: hexadecimal id, unique over languages and splits.
        sex: M or F.
        variant: eSpeak variant.
        rate_wpm, pitch, pitch_range: the speaker's own settings, varied a little per utterance.
    """

    speaker: str
    sex: str
    variant: str
    rate_wpm: int
    pitch: int
    pitch_range: int


def make_speakers(lang: str, split: str, count: int) -> list[Speaker]:
    """Speakers of a language and split, alternately male and female."""
    speakers = []
    for i in range(count):
        name = f"{lang}-{split}-{i}"
        draw = random.Random(name)
        sex = "MF"[i % 2]
        variants = _VARIANTS[split][sex]
        speakers.append(
            Speaker(
                speaker=hashlib.sha512(name.encode()).hexdigest(),
                sex=sex,
                variant=variants[(i // 2) % len(variants)],
                rate_wpm=draw.randint(150, 185),
                pitch=draw.randint(35, 65),
                pitch_range=draw.randint(40, 60),
            )
        )
    return speakers
