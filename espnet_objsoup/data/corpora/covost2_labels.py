# SPDX-License-Identifier: Apache-2.0
"""Splits and translations of a spoken language of CoVoST 2, and the table rows of its clips."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from espnet_objsoup.data.corpora.clip_index import ClipIndex
from espnet_objsoup.data.corpora.commonvoice import SPLITS, clip_name
from espnet_objsoup.data.corpora.covost2_report import Report
from espnet_objsoup.data.corpora.tsv import read_rows
from espnet_objsoup.data.languages import CORPUS_CODES
from espnet_objsoup.data.scripts import in_foreign_script
from espnet_objsoup.data.tables import NO_VALUE, DataDirError
from espnet_objsoup.data.text import normalise_st_text

_SPLIT_OF = {"train": "train", "train_covost": "train", "dev": "dev", "test": "test"}
# What pandas and databases write for a value that is not there.
_NO_TEXT = frozenset({"", "nan", "NaN", "NULL", "<NA>", NO_VALUE})


def pair_files(covost2: Path | None, lang: str, target: str) -> tuple[list[Path], list[Path]]:
    """Where the translations of a pair are.

    Returns:
        The official file, or those of the split script for train, dev and test; and files of the
        pair that are not used.

    Raises:
        DataDirError: if there are none, or not all.
    """
    if covost2 is None:
        raise DataDirError(f"pair {lang}-{target}: needs CoVoST 2; give --covost2 DIR")
    source, target = (CORPUS_CODES.get(code, code) for code in (lang, target))
    official = covost2 / f"covost_v2.{source}_{target}.tsv"
    split_files = [official.with_suffix(f".{split}.tsv") for split in SPLITS]
    there = [path for path in split_files if path.exists()]
    if official.exists():
        return [official], there
    if len(there) == len(split_files):
        return split_files, []
    if there:
        missing = [path.name for path in split_files if path not in there]
        raise DataDirError(
            f"{covost2}: expected {official.name}, or a file for each split, found no "
            f"{', '.join(missing)}; put it there"
        )
    packed = covost2 / f"{official.name}.tar.gz"
    hint = f"unpack {packed.name}" if packed.exists() else "expected the corpus unpacked there"
    raise DataDirError(f"{official}: not found; {hint}")


@dataclass
class LabelReader:
    """Reads the labels of a language into a `ClipIndex`; all methods raise DataDirError for faults.

    Attributes:
        lang: spoken language, bare code.
        directory: its folder in Common Voice.
        covost2: directory of `covost_v2.*.tsv`, or None.
        targets: languages of translations.
        st_policy: text policy of translations.
        report: where faults are counted.
    """

    lang: str
    directory: Path
    covost2: Path | None
    targets: Sequence[str]
    st_policy: str
    report: Report

    def read(self, index: ClipIndex) -> None:
        """Read everything."""
        needs_validated = not self.targets
        for target in self.targets:
            paths, unused = pair_files(self.covost2, self.lang, target)
            if unused:
                self.report.noted[f"files that are not used beside {paths[0].name}"] += len(unused)
            if len(paths) > 1:
                self._read_split_files(index, target, paths)
            else:
                needs_validated = True
                self._read_pair_file(index, target, paths[0])
        if not self.targets:
            self._read_splits(index)
        if needs_validated:
            self._read_validated(index)
        conflict = index.split_conflict()
        if conflict is not None:
            raise DataDirError(
                f"{self.lang}: expected one split per clip, found {conflict[0]} in {conflict[1]} "
                f"for one target and in {conflict[2]} for another; use files of one "
                "release of CoVoST 2"
            )

    def _read_pair_file(self, index: ClipIndex, target: str, path: Path) -> None:
        for number, (clip, text, split) in self._rows(path, "path translation split"):
            self._add_label(index, path, number, clip, split, target, text)

    def _read_split_files(self, index: ClipIndex, target: str, paths: Sequence[Path]) -> None:
        for split, path in zip(SPLITS, paths, strict=True):
            for number, (clip, sentence, text, client) in self._rows(
                path, "path sentence translation client_id"
            ):
                name = self._add_label(index, path, number, clip, split, target, text)
                # The file of another target says the same of the clip again.
                index.add_clip(name, client, sentence)

    def _read_splits(self, index: ClipIndex) -> None:
        """Splits of a language without pairs.

        Those that CoVoST 2 gives it with any target, so that the same clips are test data whatever
        pairs are chosen; else those of Common Voice.
        """
        paths = self._files_of_any_pair()
        if paths:
            names = ", ".join(path.name for path in paths)
            self.report.noted[f"files that give the splits of {self.lang} ({names})"] += len(paths)
        else:
            paths = [self.directory / f"{split}.tsv" for split in SPLITS]
            what = f"tables of Common Voice that give the splits of {self.lang}"
            self.report.noted[what] += len(paths)
        if len(paths) == 1:
            for number, (clip, split) in self._rows(paths[0], "path split"):
                self._add_label(index, paths[0], number, clip, split)
            return
        for split, path in zip(SPLITS, paths, strict=True):
            for number, (clip,) in self._rows(path, "path"):
                self._add_label(index, path, number, clip, split)

    def _files_of_any_pair(self) -> list[Path]:
        """Those of the first target that has all of its files; none without any."""
        if self.covost2 is None:
            return []
        code = CORPUS_CODES.get(self.lang, self.lang)
        found = self.covost2.glob(f"covost_v2.{code}_*.tsv")
        for target in sorted({path.name.split(".")[1].partition("_")[2] for path in found}):
            with suppress(DataDirError):  # only some of the split script's files
                return pair_files(self.covost2, self.lang, target)[0]
        return []

    def _read_validated(self, index: ClipIndex) -> None:
        path = self.directory / "validated.tsv"
        for number, (clip, client, sentence) in self._rows(path, "path client_id sentence"):
            name = clip_name(clip, f"{path}:{number}", self.report.repaired)
            found = index.add_clip(name, client, sentence)
            if found == "repeated":
                self.report.repaired[f"clips of {self.lang} that validated.tsv lists twice"] += 1
            elif found == "unlabelled":
                self.report.noted[f"validated clips of {self.lang} that no split lists"] += 1

    def _rows(self, path: Path, columns: str) -> Iterator[tuple[int, list[str]]]:
        return read_rows(path, columns.split(), self.report.repaired, self.report.dropped)

    def _add_label(
        self,
        index: ClipIndex,
        path: Path,
        number: int,
        clip: str,
        split: str,
        target: str = "",
        text: str = "",
    ) -> str:
        """Returns the clip's name."""
        name = clip_name(clip, f"{path}:{number}", self.report.repaired)
        known = _SPLIT_OF.get(split)
        if known is None:
            self.report.dropped[f"rows of {path.name} in split {split!r}"] += 1
            return name
        if target:
            text = self._translation(text, target, known)
        there = index.add_label(name, target, known, text)
        if there is None:
            return name
        if there[0] != known:
            raise DataDirError(
                f"{path}:{number}: expected one split per clip, found {name} in {known} and in "
                f"{there[0]}; get the file again"
            )
        if there[1] == text:
            self.report.repaired[f"rows of {path.name} that occur twice"] += 1
        else:
            self.report.dropped[f"further translations of one clip in {path.name}"] += 1
        return name

    def _translation(self, text: str, target: str, split: str) -> str:
        what = f"translations {self.lang}-{target} in {split}"
        text = "" if text.strip() in _NO_TEXT else normalise_st_text(text, target, self.st_policy)
        if not text:
            self.report.dropped[f"{what} without text"] += 1
        foreign = is_foreign(text, target, split, what, self.report)
        self.report.count(what, bool(text) and not foreign)
        return "" if foreign and split == "train" else text


def is_foreign(text: str, lang: str, split: str, what: str, report: Report) -> bool:
    """Whether a text is in another script than its language, which is counted.

    Only training data are left out for it: scores are of the whole test set.
    """
    if not in_foreign_script(text, lang):
        return False
    counts = report.dropped if split == "train" else report.noted
    counts[f"{what} that have another script than that of {lang}"] += 1
    return True
