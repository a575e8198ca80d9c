# SPDX-License-Identifier: Apache-2.0
"""BLEU and chrF by sacrebleu, with the tokenizer of the target language."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sacrebleu.metrics import BLEU, CHRF

from espnet_objsoup.data.text import UNSPACED_LANGUAGES, normalise
from espnet_objsoup.evaluation.bleu_tokenizers import bleu_tokenizer, check_bleu_tokenizers


@dataclass(frozen=True)
class TranslationScores:
    """Corpus scores, 0 to 100.

    Attributes:
        bleu, bleu_lc: with case, and with both sides in lower case.
        chrf: chrF2, with case.
        signature, lc_signature, chrf_signature: sacrebleu's, needed to compare with other work.
        sentences: number of utterances.
        bleu_char, char_signature: BLEU in characters, with case, of targets written without spaces.
    """

    bleu: float
    bleu_lc: float
    chrf: float
    signature: str
    lc_signature: str
    chrf_signature: str
    sentences: int
    bleu_char: float | None = None
    char_signature: str | None = None


def score_translations(
    references: Sequence[str], hypotheses: Sequence[str], target_lang: str
) -> TranslationScores:
    """Score a corpus with one reference per utterance.

    Args:
        references, hypotheses: texts, normalised alike.
        target_lang: code of their language, such as `en`.

    Raises:
        ValueError: without utterances, or for a tokenizer whose package is missing.
    """
    if not references or len(references) != len(hypotheses):
        raise ValueError(
            f"BLEU: expected as many hypotheses as references, at least one; found "
            f"{len(hypotheses)} and {len(references)}"
        )
    check_bleu_tokenizers([target_lang])
    tokenizer = bleu_tokenizer(target_lang)
    cased, lower = BLEU(tokenize=tokenizer), BLEU(tokenize=tokenizer, lowercase=True)
    chrf = CHRF()
    # sacrebleu does not know the dotless i of Turkish; what is lower case already it leaves alone.
    in_lower_case = [
        [normalise(text, target_lang, "lc") for text in side] for side in (hypotheses, references)
    ]
    scores = TranslationScores(
        bleu=_score(cased, hypotheses, references),
        bleu_lc=_score(lower, *in_lower_case),
        chrf=_score(chrf, hypotheses, references),
        signature=str(cased.get_signature()),
        lc_signature=str(lower.get_signature()),
        chrf_signature=str(chrf.get_signature()),
        sentences=len(references),
    )
    if target_lang not in UNSPACED_LANGUAGES:
        return scores
    characters = BLEU(tokenize="char")
    bleu_char = _score(characters, hypotheses, references)
    return replace(scores, bleu_char=bleu_char, char_signature=str(characters.get_signature()))


def _score(metric: BLEU | CHRF, hypotheses: Sequence[str], references: Sequence[str]) -> float:
    return metric.corpus_score(list(hypotheses), [list(references)]).score
