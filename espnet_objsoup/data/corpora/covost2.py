# SPDX-License-Identifier: Apache-2.0
"""CoVoST 2 on Common Voice.

Layout: Common Voice as `commonvoice.py` reads it, and `<covost2>/covost_v2.<src>_<tgt>.tsv` with
columns path, translation, split; or `covost_v2.<src>_<tgt>.{train,dev,test}.tsv` with path,
sentence, translation, client_id, which the corpus' split script writes.
Source: that script (facebookresearch/covost), which joins the first form with validated.tsv on
`path` and puts `train` and `train_covost` into the training set.
"""

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from espnet_objsoup.data.corpora import covost2_language
from espnet_objsoup.data.corpora.clip_index import ClipIndex
from espnet_objsoup.data.corpora.commonvoice import SPLITS, language_dir
from espnet_objsoup.data.corpora.covost2_labels import pair_files
from espnet_objsoup.data.corpora.covost2_report import LEAKS, Report, shared_between_splits
from espnet_objsoup.data.datadir import DataDirError, listing
from espnet_objsoup.data.datadir_writer import row_writer
from espnet_objsoup.data.parallel import map_jobs

INTO_ENGLISH = "fr de es ca it ru zh pt fa et mn nl tr ar sv lv sl ta ja id cy".split()
FROM_ENGLISH = "de tr fa sv mn zh cy ca sl et id ar ta lv ja".split()
LANGUAGES = ("en", *INTO_ENGLISH)
DIRECTIONS = (*((lang, "en") for lang in INTO_ENGLISH), *(("en", lang) for lang in FROM_ENGLISH))


@dataclass(frozen=True)
class CoVoST2Config:
    """What to prepare.

    Attributes:
        commonvoice: directory with a folder per language, or the one above releases.
        covost2: directory with `covost_v2.*.tsv`; not needed without pairs.
        langs: languages with recognition.
        pairs: (source, target) of translations.
        asr_policy, st_policy: text policies of transcripts and translations.
        max_lost: share of the clips, or of the texts, that may be unusable in each split of a
            language.
        forbid_leak: what may not occur in two splits, some of `LEAKS`.
    """

    commonvoice: Path
    covost2: Path | None
    langs: Sequence[str]
    pairs: Sequence[tuple[str, str]]
    asr_policy: str = "lc.rm"
    st_policy: str = "tc"
    max_lost: float = 0.1
    forbid_leak: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for languages and directions that the corpus does not have."""
        for lang in self.langs:
            if lang not in LANGUAGES:
                raise ValueError(f"langs: expected some of {' '.join(LANGUAGES)}, found {lang!r}")
        for pair in self.pairs:
            if pair not in DIRECTIONS:
                known = " ".join("-".join(direction) for direction in DIRECTIONS)
                raise ValueError(f"st_pairs: expected some of {known}, found {'-'.join(pair)!r}")
        for leak in self.forbid_leak:
            if leak not in LEAKS:
                raise ValueError(f"forbid_leak: expected some of {' '.join(LEAKS)}, found {leak!r}")
        if not self.sources:
            raise ValueError("langs: expected at least one language, found none")

    @property
    def sources(self) -> list[str]:
        """Spoken languages."""
        return list(dict.fromkeys([*self.langs, *(source for source, _ in self.pairs)]))


def prepare(config: CoVoST2Config, out: Path, n_jobs: int = 1) -> Report:
    """Read the corpus and write `out/train`, `out/dev` and `out/test`, all or none.

    Memory does not grow with the corpus, and the result does not depend on `n_jobs`.

    Returns:
        What was written, mended and left out.

    Raises:
        DataDirError: if files or columns are missing, if more than `max_lost` of a language is not
            usable, if a clip is in two splits, or for a forbidden leak.
        OSError: if a file cannot be written.
        RuntimeError: if there is no room for the scratch files, or a process dies.
    """
    _refuse_missing(config)
    # Beside the result, where there is room for it; one that was killed has left its own.
    existed = out.exists()
    scratch = out / ".preparing"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        # Ids begin with the language and a hyphen, which no code contains.
        jobs = [_Job(config, lang, scratch / f"{lang}.sqlite") for lang in sorted(config.sources)]
        reports = map_jobs(_read, jobs, n_jobs, "read languages", fresh_process=n_jobs > 1)
        report = Report.merge(reports)
        with ExitStack() as stack:
            indexes = [stack.enter_context(ClipIndex(job.scratch)) for job in jobs]
            for kind in LEAKS:
                report.shared |= shared_between_splits(kind, indexes)
            _refuse_leaks(config, report)
            writers = {split: stack.enter_context(row_writer(out / split)) for split in SPLITS}
            for split, writer in writers.items():
                for index in indexes:
                    for utterance, row in index.utterances(split):
                        writer.add(utterance, row)
            # All errors come before the first directory is replaced.
            for writer in writers.values():
                writer.finish()
        for split, writer in writers.items():
            report.rows[split] = writer.rows
            report.objectives[split] = dict(writer.objectives)
    except sqlite3.Error as err:
        raise RuntimeError(
            f"{scratch}: expected room for an index of about 1 kB per clip, found: {err}; free "
            "space or choose another --out (--datadir), nothing was written"
        ) from err
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if not existed:
            with suppress(OSError):  # it holds the data
                out.rmdir()
    return report


def _refuse_missing(config: CoVoST2Config) -> None:
    """Everything that is missing is said at once, before hours of reading."""
    checks = [partial(language_dir, config.commonvoice, lang) for lang in config.sources]
    checks += [partial(pair_files, config.covost2, *pair) for pair in config.pairs]
    problems = []
    for check in checks:
        try:
            check()
        except DataDirError as err:
            problems.append(str(err))
    if problems:
        raise DataDirError(listing(problems))


@dataclass(frozen=True)
class _Job:
    config: CoVoST2Config
    lang: str
    scratch: Path


def _read(job: _Job) -> Report:
    config = job.config
    language = covost2_language.Language(
        lang=job.lang,
        commonvoice=config.commonvoice,
        covost2=config.covost2,
        targets=[target for source, target in config.pairs if source == job.lang],
        recognition=job.lang in config.langs,
        asr_policy=config.asr_policy,
        st_policy=config.st_policy,
        max_lost=config.max_lost,
    )
    with ClipIndex(job.scratch, new=True) as index:
        return language.read(index)


def _refuse_leaks(config: CoVoST2Config, report: Report) -> None:
    found = [what for what in report.shared if what.split()[0] in config.forbid_leak]
    if found:
        counts = ", ".join(f"{report.shared[what]} {what}" for what in found)
        raise DataDirError(
            f"expected no {' and no '.join(config.forbid_leak)} in two splits, found {counts}; "
            "leave out --forbid_leak to be told only"
        )
