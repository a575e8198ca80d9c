# SPDX-License-Identifier: Apache-2.0
"""Transcripts of LibriSpeech and AISHELL-1: lines `<utterance> <words>`."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

import regex

from espnet_objsoup.data.corpora.findings import Findings
from espnet_objsoup.data.datadir import NO_VALUE
from espnet_objsoup.data.text import normalise_asr_text

# What a transcript of a language has at least one letter of.
_SCRIPTS = {"en": regex.compile(r"\p{Latin}"), "zh": regex.compile(r"\p{Han}")}
_SCRIPT_NAMES = {"en": "Latin letter", "zh": "Chinese character"}


def read_lines(
    content: bytes, path: Path, findings: Findings, first_line: int = 1
) -> Iterator[tuple[int, str, str]]:
    """Lines of a transcript or of a part of one.

    A byte order mark and Windows line ends are repaired and counted; bytes that are no UTF-8 are a
    problem, and so are the line ends of old Macs, where all would be one line.

    Args:
        content: what was read.
        path: of the file, for messages.
        findings: what is found is added to it.
        first_line: number of the first line.

    Yields:
        Number of the line, utterance, words (possibly none).
    """
    if first_line == 1 and content.startswith(codecs.BOM_UTF8):
        content = content.removeprefix(codecs.BOM_UTF8)
        findings.note("repaired: transcripts that begin with a byte order mark", path)
    if content and not content.endswith(b"\n"):
        findings.note("warning: transcripts whose last line has no end, and may be cut off", path)
    if b"\r\n" in content:
        content = re.sub(rb"\r+\n", b"\n", content)
        findings.note("repaired: transcripts with Windows line ends", path)
    if b"\r" in content:
        number = first_line + content.count(b"\n", 0, content.index(b"\r"))
        findings.problems.append(
            f"{path}:{number}: expected lines that end in a line feed, found a carriage return "
            "within one; convert the file (dos2unix -c mac)"
        )
        return
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as err:
        number = first_line + content.count(b"\n", 0, err.start)
        findings.problems.append(
            f"{path}:{number}: expected UTF-8, found byte {content[err.start]:#x}; convert the "
            "file (iconv -t UTF-8)"
        )
        return
    for number, line in enumerate(text.split("\n"), first_line):
        if line.strip():
            utterance, *words = line.split(maxsplit=1)
            yield number, utterance, words[0].strip() if words else ""


class Texts:
    """Words of utterances, each of which may be said once.

    Attributes:
        words: utterance -> words as they were written.
    """

    def __init__(self, path: Path, findings: Findings) -> None:
        self.words: dict[str, str] = {}
        self._path = path
        self._findings = findings
        self._lines: dict[str, int] = {}

    def add(self, number: int, utterance: str, words: str) -> None:
        """Add a line; one that says the same again is counted, another text is a problem."""
        if utterance not in self.words:
            self.words[utterance], self._lines[utterance] = words, number
        elif self.words[utterance] == words:
            self._findings.note("repaired: repeated lines of transcripts", f"{self._path}:{number}")
        else:
            self._findings.problems.append(
                f"{self._path}:{number}: expected each utterance once, found {utterance} in line "
                f"{self._lines[utterance]} with another text; remove the wrong line"
            )


def transcript(words: str | None, lang: str, policy: str, where: str, findings: Findings) -> str:
    """Normalised transcript, `<na>` where there is none, which is counted.

    Args:
        words: as they were written; None if the utterance is in no transcript.
        lang: language, `en` or `zh`.
        policy: of normalisation.
        where: the recording, for messages.
        findings: counts go here.
    """
    if words is None:
        findings.note("without transcript: recordings that no transcript mentions", where)
        return NO_VALUE
    text = normalise_asr_text(words, lang, policy)
    if not text:
        findings.note("without transcript: recordings whose line has no words", where)
    elif not _SCRIPTS[lang].search(text):
        name = _SCRIPT_NAMES[lang]
        findings.note(f"without transcript: recordings whose line has no {name}", where)
        return NO_VALUE
    return text or NO_VALUE
