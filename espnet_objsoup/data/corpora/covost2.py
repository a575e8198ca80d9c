# SPDX-License-Identifier: Apache-2.0
"""CoVoST 2 on Common Voice.

Layout: `<commonvoice>/<code>/{validated,train,dev,test}.tsv` and `clips/*.mp3`, as Common Voice's
archives unpack; `<covost2>/covost_v2.<src>_<tgt>.tsv` with columns path, translation, split.
Source: the corpus' official split script (facebookresearch/covost), which joins the two on `path`
and puts `train` and `train_covost` into the training set.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from espnet_objsoup.data.corpora.rows import Utterance, check_no_leak, to_data_dir
from espnet_objsoup.data.datadir import NO_VALUE, DataDir, DataDirError
from espnet_objsoup.data.text import normalise_asr_text, normalise_st_text

SPLITS = ("train", "dev", "test")
_SPLIT_OF = {"train": "train", "train_covost": "train", "dev": "dev", "test": "test"}
# Languages that the corpus names with a region; data directories use the bare code.
CORPUS_CODES = {"zh": "zh-CN", "sv": "sv-SE"}


@dataclass(frozen=True)
class CoVoST2Config:
    """What to prepare.

    Attributes:
        commonvoice: directory with a folder per language.
        covost2: directory with `covost_v2.*.tsv`; not needed without pairs.
        langs: languages with recognition.
        pairs: (source, target) of translations.
        asr_policy, st_policy: text policies of transcripts and translations.
    """

    commonvoice: Path
    covost2: Path | None
    langs: Sequence[str]
    pairs: Sequence[tuple[str, str]]
    asr_policy: str = "lc.rm"
    st_policy: str = "tc"


@dataclass
class Report:
    """Counts of what was left out, by reason, and of values shared between splits."""

    dropped: Counter[str] = field(default_factory=Counter)
    shared: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The report in words."""
        dropped = [f"left out: {n} clips {reason}" for reason, n in sorted(self.dropped.items())]
        return dropped + [f"shared: {n} values of {what}" for what, n in self.shared.items()]


def parse_pairs(values: Sequence[str]) -> list[tuple[str, str]]:
    """Parse `fr-en`.

    Raises:
        ValueError: for anything but two language codes.
    """
    pairs = []
    for value in values:
        codes = value.split("-")
        if len(codes) != 2 or not all(codes):
            raise ValueError(f"st_pairs: expected <source>-<target> such as fr-en, found {value!r}")
        pairs.append((codes[0], codes[1]))
    return pairs


def prepare(config: CoVoST2Config) -> tuple[dict[str, DataDir], Report]:
    """Read the corpus.

    Returns:
        split -> data, and what was left out.

    Raises:
        DataDirError: if files or columns are missing, or splits overlap.
    """
    utterances: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    report = Report()
    sources = dict.fromkeys([*config.langs, *(source for source, _ in config.pairs)])
    if not sources:
        raise DataDirError("langs: expected at least one language, found none")
    for lang in sources:
        for split, item in _language(config, lang, report):
            utterances[split].append(item)
    splits = {split: to_data_dir(items) for split, items in utterances.items()}
    empty = [split for split, data in splits.items() if not data.columns["utt2spk"]]
    if empty:
        raise DataDirError(f"no utterance in {', '.join(empty)}; check the languages and the TSVs")
    report.shared = check_no_leak(splits, ("utt2spk", "text"))
    return splits, report


def _language(config: CoVoST2Config, lang: str, report: Report) -> Iterator[tuple[str, Utterance]]:
    root = config.commonvoice / CORPUS_CODES.get(lang, lang)
    clips = {row["path"]: row for row in read_tsv(root / "validated.tsv", _CLIP_COLUMNS)}
    translations, split_of = _labels(config, lang, root, report)
    for path, split in tqdm(sorted(split_of.items()), desc=f"read {lang}", mininterval=1.0):
        if path not in clips:
            report.dropped[f"of {lang} that validated.tsv does not list"] += 1
            continue
        audio = root / "clips" / path
        if not audio.suffix:
            audio = audio.with_suffix(".mp3")
        reason = _unusable(audio)
        if reason:
            report.dropped[f"of {lang} whose audio {reason}"] += 1
            continue
        transcript = NO_VALUE
        if lang in config.langs:
            transcript = normalise_asr_text(clips[path]["sentence"], lang, config.asr_policy)
        labels = translations.get(path, {})
        if transcript in ("", NO_VALUE) and not labels:
            report.dropped[f"of {lang} without text"] += 1
            continue
        yield (
            split,
            Utterance(
                utterance=audio.stem,
                # Real client ids have 128 hexadecimal digits; 16 are unique and fit a terminal.
                speaker=f"{lang}-{clips[path]['client_id'][:16]}",
                audio=str(audio),
                lang=lang,
                transcript=transcript or NO_VALUE,
                translations=labels,
            ),
        )


_CLIP_COLUMNS = ("client_id", "path", "sentence")


def _unusable(audio: Path) -> str:
    try:
        return "is empty" if audio.stat().st_size == 0 else ""
    except FileNotFoundError:
        return "is missing"


def _labels(
    config: CoVoST2Config, lang: str, root: Path, report: Report
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Translations by clip and target, and the split of every clip of a language."""
    targets = [target for source, target in config.pairs if source == lang]
    translations: dict[str, dict[str, str]] = {}
    split_of: dict[str, str] = {}
    for target in targets:
        for row in read_tsv(_pair_file(config, lang, target), ("path", "translation", "split")):
            split = _SPLIT_OF.get(row["split"])
            if split is None:
                report.dropped[f"of {lang}-{target} in split {row['split']}"] += 1
                continue
            text = normalise_st_text(row["translation"], target, config.st_policy)
            if not text:
                report.dropped[f"of {lang}-{target} without translation"] += 1
                continue
            translations.setdefault(row["path"], {})[target] = text
            if split_of.setdefault(row["path"], split) != split:
                raise DataDirError(
                    f"{row['path']}: in {split_of[row['path']]} for one target of {lang}, in "
                    f"{split} for {target}; expected one split per clip"
                )
    if not targets:
        split_of = _recognition_splits(config, lang, root)
    return translations, split_of


def _pair_file(config: CoVoST2Config, source: str, target: str) -> Path:
    if config.covost2 is None:
        raise DataDirError(f"pair {source}-{target}: needs CoVoST 2; give --covost2 DIR")
    codes = [CORPUS_CODES.get(code, code) for code in (source, target)]
    return config.covost2 / f"covost_v2.{codes[0]}_{codes[1]}.tsv"


def _recognition_splits(config: CoVoST2Config, lang: str, root: Path) -> dict[str, str]:
    """Splits of a language without pairs: CoVoST 2's if it has any, else Common Voice's own."""
    code = CORPUS_CODES.get(lang, lang)
    for path in sorted(config.covost2.glob(f"covost_v2.{code}_*.tsv")) if config.covost2 else []:
        if path.stem.count(".") == 1:  # not covost_v2.fr_en.train.tsv
            rows = read_tsv(path, ("path", "split"))
            return {r["path"]: _SPLIT_OF[r["split"]] for r in rows if r["split"] in _SPLIT_OF}
    splits = {}
    for split in SPLITS:
        for row in read_tsv(root / f"{split}.tsv", ("path",)):
            splits[row["path"]] = split
    return splits


def read_tsv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a TSV by header name, quoted as the corpus' own reader expects (not at all).

    Raises:
        DataDirError: if the file, a column or a field of a row is missing.
    """
    if not path.exists():
        raise DataDirError(f"{path}: not found; expected the corpus unpacked there")
    csv.field_size_limit(1_000_000)
    rows = []
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\")
        missing = [name for name in columns if name not in (reader.fieldnames or [])]
        if missing:
            raise DataDirError(
                f"{path}:1: expected the columns {', '.join(columns)}, found "
                f"{', '.join(reader.fieldnames or ['nothing'])}"
            )
        for row in reader:
            if any(row[name] is None for name in columns):
                raise DataDirError(
                    f"{path}:{reader.line_num}: expected {len(reader.fieldnames)} fields, found "
                    "fewer; is the file complete?"
                )
            rows.append({name: row[name] for name in columns})
    return rows
