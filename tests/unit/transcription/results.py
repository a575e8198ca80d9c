# SPDX-License-Identifier: Apache-2.0
"""Results as a model would give them."""

from espnet_objsoup.inference.results import Result, Segment, Word


def make_result(
    text: str,
    segments: list[tuple[float, float, str]] | None = None,
    words: list[tuple[str, float, float]] | None = None,
    score: float = -1.5,
    task: str = "asr",
    lang: str = "fr",
    target_lang: str | None = None,
    audio_s: float = 10.0,
) -> Result:
    parts = [(0.0, audio_s, text)] if segments is None else segments
    return Result(
        text=text,
        tokens=text.split(),
        token_ids=list(range(len(text.split()))),
        score=score,
        task=task,
        lang=lang,
        target_lang=target_lang,
        lang_was_guessed=False,
        audio_s=audio_s,
        seconds=0.5,
        segments=tuple(Segment(start, end, part, score) for start, end, part in parts),
        words=None if words is None else tuple(Word(*word) for word in words),
    )
