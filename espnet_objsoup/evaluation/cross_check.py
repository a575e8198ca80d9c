# SPDX-License-Identifier: Apache-2.0
"""Error rates a second time, by the evaluation toolkit in ESPnet's wheel (`splet-measure`).

It shares no code with `error_rate.py`: alignments come from its own dynamic programme, ours from
jiwer. Several alignments of two texts can have equally few errors, and the two choose among them
differently; so errors and reference tokens have to agree, and deletions minus insertions, while
substitutions may be told apart from pairs of a deletion and an insertion in more than one way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from splet import load_metrics, measure_utterances, summarize

from espnet_objsoup.data.text import UNSPACED_LANGUAGES
from espnet_objsoup.evaluation.error_rate import ErrorCounts

# Characters above which splet's own programme refuses to build a table; it then calls rapidfuzz,
# as jiwer does, and only its tokens and sums are its own.
_LONG = 1900


class CrossCheckError(RuntimeError):
    """Two independent implementations disagree about an error rate."""


@dataclass(frozen=True)
class SpletCounts:
    """Pooled counts as `splet-measure` reports them."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def reference_tokens(self) -> int:
        """Tokens of the references."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Wrong tokens."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference token in percent."""
        return 100.0 * self.errors / self.reference_tokens


def splet_counts(
    references: Sequence[str], hypotheses: Sequence[str], lang: str
) -> dict[str, SpletCounts]:
    """Counts in words (`wer`) and characters (`cer`), by splet.

    Args:
        references, hypotheses: normalised texts.
        lang: their language; in those written without spaces, spaces are no characters.
    """
    longest = max(map(len, (*references, *hypotheses)), default=0)
    metrics = load_metrics(_configuration(lang, "python" if longest < _LONG else "rapidfuzz"))
    keyed = [
        {f"{i:08d}": " ".join(text.split()) for i, text in enumerate(side)}
        for side in (hypotheses, references)
    ]
    summary = summarize(measure_utterances(keyed[0], metrics, keyed[1]), metrics)
    return {
        name: SpletCounts(*(summary[f"{name}_{key}"] for key in ("hit", "sub", "del", "ins")))
        for name in ("wer", "cer")
    }


def _configuration(lang: str, backend: str) -> list[dict[str, Any]]:
    spaces = {"remove_space": lang in UNSPACED_LANGUAGES}
    return [
        {"name": "wer", "backend": backend},
        {"name": "cer", "backend": backend, "tokenizer_conf": spaces},
    ]


def cross_check(
    name: str,
    references: Sequence[str],
    hypotheses: Sequence[str],
    lang: str,
    words: ErrorCounts,
    characters: ErrorCounts,
) -> dict[str, SpletCounts]:
    """Compare our counts with splet's.

    Args:
        name: of the objective, for messages.
        references, hypotheses, lang: as for `splet_counts`.
        words, characters: our counts of the same texts.

    Returns:
        Splet's counts, by `wer` and `cer`.

    Raises:
        CrossCheckError: naming the objective and both values, if they differ.
    """
    found = splet_counts(references, hypotheses, lang)
    for measure, ours in (("wer", words), ("cer", characters)):
        theirs = found[measure]
        if _invariants(ours) != _invariants(theirs):
            raise CrossCheckError(
                f"{name}: {measure.upper()}: expected the same from jiwer and from splet-measure, "
                f"found {ours.rate:.4f} ({_describe(ours)}) and {theirs.rate:.4f} "
                f"({_describe(theirs)}) over {len(references)} utterances; one of the two is "
                "wrong: keep the hypotheses and report it, or score with --cross_check false"
            )
    return found


def _invariants(counts: ErrorCounts | SpletCounts) -> tuple[int, int, int]:
    """What every alignment with the fewest errors has in common."""
    errors = counts.substitutions + counts.deletions + counts.insertions
    return errors, counts.reference_tokens, counts.deletions - counts.insertions


def _describe(counts: ErrorCounts | SpletCounts) -> str:
    return (
        f"S {counts.substitutions}, D {counts.deletions}, I {counts.insertions}, "
        f"{counts.reference_tokens} tokens"
    )
