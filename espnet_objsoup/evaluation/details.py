# SPDX-License-Identifier: Apache-2.0
"""What every utterance looks like: `ref.trn`, `hyp.trn` and alignments, where ESPnet has them."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_objsoup.evaluation.error_rate import align

_SPACE = "<space>"  # among characters


@dataclass(frozen=True)
class ScoredUtterance:
    """Normalised texts of an utterance.

    Attributes:
        utterance, speaker: ids.
        lang: language of both texts.
        reference, hypothesis: texts as they were scored.
    """

    utterance: str
    speaker: str
    lang: str
    reference: str
    hypothesis: str

    @property
    def trn_id(self) -> str:
        """Id at the end of its lines."""
        return make_trn_id(self.speaker, self.utterance)


def make_trn_id(speaker: str, utterance: str) -> str:
    """Id as NIST's tools want it at the end of a line."""
    return f"({speaker}-{utterance})"


def write_error_details(
    directory: Path,
    utterances: Sequence[ScoredUtterance],
    tokenize: Callable[[str, str], list[str]],
) -> None:
    """Write `ref.trn`, `hyp.trn` and `result.txt` with the alignment of every utterance.

    Args:
        directory: such as `<decode>/<split>/asr/score_wer`.
        utterances: of all languages.
        tokenize: (text, language) -> words or characters.
    """

    def tokens(text: str, lang: str) -> list[str]:
        return [_SPACE if token == " " else token for token in tokenize(text, lang)]

    rows = [(u, tokens(u.reference, u.lang), tokens(u.hypothesis, u.lang)) for u in utterances]
    files = {
        "ref.trn": "".join(f"{' '.join(ref)}\t{u.trn_id}\n" for u, ref, _ in rows),
        "hyp.trn": "".join(f"{' '.join(hyp)}\t{u.trn_id}\n" for u, _, hyp in rows),
        "result.txt": "\n".join(_alignment(*row) for row in rows),
    }
    _write(directory, files)


def write_translation_details(
    directory: Path, utterances: Sequence[ScoredUtterance], result: str
) -> None:
    """Write `ref.trn`, `hyp.trn` (detokenised, as scored) and `result.txt`."""
    files = {
        "ref.trn": "".join(f"{u.reference}\t{u.trn_id}\n" for u in utterances),
        "hyp.trn": "".join(f"{u.hypothesis}\t{u.trn_id}\n" for u in utterances),
        "result.txt": result,
    }
    _write(directory, files)


def read_trn(path: Path, joined: bool = False) -> dict[str, str]:
    """Texts of a `ref.trn` or `hyp.trn`, by the ids that `make_trn_id` gives.

    Args:
        path: of the file.
        joined: tokens are characters, which are put together again.

    Raises:
        OSError: if it cannot be read.
    """
    texts = {}
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        text, _, key = line.rpartition("\t")
        if joined:
            text = "".join(" " if token == _SPACE else token for token in text.split(" "))
        texts[key] = text
    return texts


def _alignment(utterance: ScoredUtterance, reference: list[str], hypothesis: list[str]) -> str:
    """One utterance as sclite lists it: errors in upper case, stars for what a side lacks."""
    rows: tuple[list[str], ...] = ([], [], [])
    counts: Counter[str] = Counter()
    for operation, left, right in align(reference, hypothesis):
        counts[operation] += 1
        if operation != "C":
            left, right = left.upper(), right.upper()
        width = max(len(left), len(right))
        rows[0].append((left or "*" * width).ljust(width))
        rows[1].append((right or "*" * width).ljust(width))
        rows[2].append(("" if operation == "C" else operation).ljust(width))
    scores = " ".join(str(counts[operation]) for operation in "CSDI")
    lines = [f"id: {utterance.trn_id}", f"Scores: (#C #S #D #I) {scores}"]
    lines += [
        f"{name} {' '.join(row)}".rstrip()
        for name, row in zip(("REF: ", "HYP: ", "Eval:"), rows, strict=True)
    ]
    return "\n".join(lines) + "\n"


def _write(directory: Path, files: dict[str, str]) -> None:
    temporary = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, content in files.items():
        (temporary / name).write_text(content, encoding="utf-8")
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(temporary, directory)
