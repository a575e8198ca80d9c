# SPDX-License-Identifier: Apache-2.0
"""A corpus of a few dozen clips in the layout of Common Voice and CoVoST 2, to be spoilt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from espnet_objsoup.data import datadir
from espnet_objsoup.data.corpora.covost2 import CoVoST2Config, prepare
from espnet_objsoup.data.corpora.covost2_report import Report
from espnet_objsoup.data.datadir import DataDir
from espnet_objsoup.data.languages import parse_pairs

# Headers of Common Voice 4 and of a release of these days.
OLD = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent"
NEW = (
    "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender"
    "\taccents\tvariant\tlocale\tsegment"
)
# Split of clip i in official files: train is the first two.
SPLIT_OF = ("train", "train_covost", "dev", "test")
CLIPS = 40
SENTENCES = {
    "fr": "Phrase “{i}”, dite.",
    "en": "Sentence {i} isn't here.",
    "zh": "这是第 {i} 句话。",
}
TRANSLATIONS = {
    "en": 'Sentence "{i}", said.',
    "de": "Satz Nummer {i}, gesagt.",
    "ca": "Frase número {i}, dita.",
    "zh": "第{i}句，说了。",
}


@dataclass
class Corpus:
    """Where it lies, and what is wanted of it."""

    config: CoVoST2Config

    @property
    def covost2(self) -> Path:
        return self.config.covost2

    def folder(self, lang: str) -> Path:
        return self.config.commonvoice / {"zh": "zh-CN"}.get(lang, lang)

    def table(self, name: str) -> Path:
        """`fr/validated.tsv`, or `covost_v2.fr_en.tsv`."""
        return self.config.commonvoice / name if "/" in name else self.covost2 / name

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        path = self.table(name)
        path.write_bytes(change(path.read_bytes().decode()).encode())

    def edit_row(self, name: str, number: int, change: Callable[[str], str]) -> None:
        """Change line `number`; the header is line 0."""
        lines = self.table(name).read_text("utf-8").split("\n")
        lines[number] = change(lines[number])
        self.table(name).write_bytes("\n".join(lines).encode())

    def clip(self, lang: str, i: int) -> Path:
        code = self.folder(lang).name
        return self.folder(lang) / "clips" / f"common_voice_{code}_{i:03}.mp3"

    def prepare(
        self, out: Path, n_jobs: int = 1, **changes: object
    ) -> tuple[dict[str, DataDir], Report]:
        report = prepare(replace(self.config, **changes), out, n_jobs)
        return {split: datadir.read(out / split) for split in ("train", "dev", "test")}, report


def make(
    root: Path,
    langs: Sequence[str] = ("fr", "en"),
    pairs: Sequence[str] = ("fr-en",),
    header: str = OLD,
) -> Corpus:
    """Clips 1 to 40 of each language; `pairs` have translations of all."""
    config = CoVoST2Config(root / "cv", root / "covost", list(langs), parse_pairs(pairs))
    corpus = Corpus(config)
    corpus.covost2.mkdir(parents=True)
    for lang in config.sources:
        corpus.clip(lang, 1).parent.mkdir(parents=True)
        rows = {}
        for i in range(1, CLIPS + 1):
            corpus.clip(lang, i).write_bytes(b"audio")
            values = {name: "" for name in header.split("\t")}
            values["client_id"] = client(lang, i)
            values["path"] = corpus.clip(lang, i).name
            values["sentence"] = SENTENCES[lang].format(i=i)
            values |= {"up_votes": "2", "down_votes": "0"}
            rows[i] = "\t".join(values.values())
        write(corpus.folder(lang) / "validated.tsv", header, rows.values())
        for split in ("train", "dev", "test"):
            own = [row for i, row in rows.items() if SPLIT_OF[i % 4].startswith(split)]
            write(corpus.folder(lang) / f"{split}.tsv", header, own)
    for source, target in config.pairs:
        labels = [
            f"{corpus.clip(source, i).name}\t{TRANSLATIONS[target].format(i=i)}\t{SPLIT_OF[i % 4]}"
            for i in range(1, CLIPS + 1)
        ]
        codes = [{"zh": "zh-CN"}.get(code, code) for code in (source, target)]
        write(
            corpus.covost2 / f"covost_v2.{codes[0]}_{codes[1]}.tsv",
            "path\ttranslation\tsplit",
            labels,
        )
    return corpus


def client(lang: str, i: int) -> str:
    """128 digits; every person speaks one clip."""
    return f"{i:03}{len(lang):x}{ord(lang[0]):x}".ljust(128, "0")


def write(path: Path, header: str, rows: Sequence[str]) -> None:
    path.write_text("".join(f"{row}\n" for row in (header, *rows)), encoding="utf-8")


def split_form(corpus: Corpus, pair: str, lang: str) -> None:
    """Replace a pair's official file by those that CoVoST's split script makes."""
    official = corpus.covost2 / f"covost_v2.{pair}.tsv"
    rows = [line.split("\t") for line in official.read_text("utf-8").splitlines()[1:]]
    for split in ("train", "dev", "test"):
        made = [
            f"{name}\t{SENTENCES[lang].format(i=i)}\t{text}\t{client(lang, i)}"
            for i, (name, text, own) in enumerate(rows, 1)
            if own.startswith(split)
        ]
        header = "path\tsentence\ttranslation\tclient_id"
        write(official.with_suffix(f".{split}.tsv"), header, made)
    official.unlink()
