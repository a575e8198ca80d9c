# SPDX-License-Identifier: Apache-2.0
"""BLEU and chrF by sacrebleu, with the tokenizer of the target language."""

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU, CHRF

# sacrebleu's own advice; every other language has 13a.
_TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab", "th": "char", "yue": "char"}


@dataclass(frozen=True)
class TranslationScores:
    """Corpus scores, 0 to 100.

    Attributes:
        bleu, bleu_lc: with case, and with both sides in lower case.
        chrf: chrF2.
        signature, chrf_signature: sacrebleu's, needed to compare with other work.
        sentences: number of utterances.
    """

    bleu: float
    bleu_lc: float
    chrf: float
    signature: str
    chrf_signature: str
    sentences: int


def score_translations(
    references: Sequence[str], hypotheses: Sequence[str], target_lang: str
) -> TranslationScores:
    """Score a corpus with one reference per utterance.

    Raises:
        ValueError: without utterances, or for a tokenizer whose package is missing.
    """
    if not references or len(references) != len(hypotheses):
        raise ValueError(
            f"BLEU: expected as many hypotheses as references, at least one; found "
            f"{len(hypotheses)} and {len(references)}"
        )
    tokenizer = _TOKENIZERS.get(target_lang, "13a")
    try:
        cased, lower = BLEU(tokenize=tokenizer), BLEU(tokenize=tokenizer, lowercase=True)
    except (ImportError, RuntimeError) as err:
        raise ValueError(
            f"BLEU for {target_lang}: sacrebleu's tokenizer {tokenizer} needs more packages: "
            f"pip install 'sacrebleu[{target_lang}]' ({err})"
        ) from err
    chrf = CHRF()
    texts = (list(hypotheses), [list(references)])
    scores = [metric.corpus_score(*texts).score for metric in (cased, lower, chrf)]
    return TranslationScores(
        *scores, str(cased.get_signature()), str(chrf.get_signature()), len(references)
    )
