# SPDX-License-Identifier: Apache-2.0
"""One spoken language of CoVoST 2: from its files to sorted utterances."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_objsoup.data.corpora.clip_index import Clip, ClipIndex
from espnet_objsoup.data.corpora.commonvoice import SPLITS, Clips, language_dir
from espnet_objsoup.data.corpora.covost2_labels import LabelReader, is_foreign
from espnet_objsoup.data.corpora.covost2_report import Report
from espnet_objsoup.data.corpora.rows import Utterance, rows_of
from espnet_objsoup.data.tables import NO_VALUE, DataDirError
from espnet_objsoup.data.text import normalise_asr_text

# Real client ids have 128 hexadecimal digits; 16 are unique and fit a terminal.
_SPEAKER_DIGITS = 16
_PLAIN_ID = re.compile(r"[0-9A-Za-z_]+")


@dataclass(frozen=True)
class Language:
    """A spoken language, and what is wanted of it.

    Attributes:
        lang: bare code.
        commonvoice, covost2, asr_policy, st_policy, max_lost: as in CoVoST2Config.
        targets: languages of translations.
        recognition: whether transcripts are wanted.
    """

    lang: str
    commonvoice: Path
    covost2: Path | None
    targets: Sequence[str]
    recognition: bool
    asr_policy: str
    st_policy: str
    max_lost: float

    def read(self, index: ClipIndex) -> Report:
        """Fill `index`; returns what was mended and left out.

        Raises:
            DataDirError: if files are missing or faulty, if a split is empty, or if more than
                `max_lost` of one is not usable.
        """
        report = Report()
        directory = language_dir(self.commonvoice, self.lang)
        clips = Clips(directory)
        LabelReader(self.lang, directory, self.covost2, self.targets, self.st_policy, report).read(
            index
        )
        used = self._join(index, clips, report)
        unused = clips.files - used.total()
        if unused > 0:
            report.noted[f"files in {directory.name}/clips that are not used"] += unused
        self._check(used, report)
        return report

    def _join(self, index: ClipIndex, clips: Clips, report: Report) -> Counter[str]:
        """Returns the number of clips by split."""
        speakers = _SpeakerNames(self.lang, index.ambiguous_prefixes(_SPEAKER_DIGITS))
        used: Counter[str] = Counter()
        for clip, split, found, translations in index.labelled_clips():
            fault = _table_fault(found) or clips.fault(clip)
            sentence, labels = "", {target: text for target, text in translations.items() if text}
            if not fault:
                sentence = normalise_asr_text(found.sentence, self.lang, self.asr_policy)
                transcript = self._transcript(sentence, split, report)
                if transcript == NO_VALUE and not labels:
                    fault = "without text"
            report.count(f"clips of {self.lang} in {split}", not fault)
            if fault:
                report.dropped[f"clips of {self.lang} in {split} {fault}"] += 1
                continue
            speaker = speakers.name(found.client)
            item = Utterance(clip, speaker, clips.path(clip), self.lang, transcript, labels)
            for utterance, row in rows_of(item):
                if not index.add_utterance(split, utterance, row):
                    raise DataDirError(
                        f"{clips.path(clip)}: expected clips with names of their own, found two "
                        f"that would be called {utterance}; rename one"
                    )
            index.add_use("speakers", found.client, split)
            if sentence:
                index.add_use("sentences", sentence, split)
            used[split] += 1
        return used

    def _transcript(self, sentence: str, split: str, report: Report) -> str:
        if not self.recognition:
            return NO_VALUE
        what = f"transcripts of {self.lang} in {split}"
        foreign = is_foreign(sentence, self.lang, split, what, report)
        report.count(what, bool(sentence) and not foreign)
        if not sentence:
            report.dropped[f"{what} without text"] += 1
        return NO_VALUE if not sentence or (foreign and split == "train") else sentence

    def _check(self, used: Mapping[str, int], report: Report) -> None:
        problems = report.unusable(self.max_lost)
        empty = [split for split in SPLITS if not used.get(split)]
        if empty:
            problems.append(f"there is no utterance in {', '.join(empty)}")
        if problems:
            counts = "".join(f"\n  left out: {n} {what}" for what, n in report.dropped.items())
            raise DataDirError(
                f"{self.lang}: expected that in each split at most {100 * self.max_lost:g} % of "
                f"the clips and texts are not usable and that there are some, found: "
                f"{'; '.join(problems)}{counts}\n"
                "Check that the files of CoVoST 2 and of Common Voice belong together and are "
                "whole, or allow more with --max_lost"
            )


def _table_fault(found: Clip | None) -> str:
    if found is None:
        return "that validated.tsv does not list"
    if found.contradictory:
        return "that a table lists twice, with different values"
    return "" if found.client else "without client_id"


class _SpeakerNames:
    """Speakers from clients; ids consist of characters that sort after `-`."""

    def __init__(self, lang: str, ambiguous: set[str]) -> None:
        self._lang = lang
        self._ambiguous = ambiguous

    def name(self, client: str) -> str:
        """Name of a client."""
        short = client[:_SPEAKER_DIGITS]
        if short in self._ambiguous or not _PLAIN_ID.fullmatch(client):
            short = hashlib.sha256(client.encode()).hexdigest()[:_SPEAKER_DIGITS]
        return f"{self._lang}-{short}"
