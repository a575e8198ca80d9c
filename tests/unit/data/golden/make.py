# SPDX-License-Identifier: Apache-2.0
"""Makes the tables in golden/tables: stages 1 to 4 on small corpora of tones.

    python -m tests.unit.data.golden.make

Run it after a change that is meant to change tables, and read the difference before committing.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from espnet_objsoup.bin import filter_data_dir, format_audio, perturb_speed, prepare_corpus
from tests.unit.data.corpora.speech_layouts import flac, make_aishell, make_librispeech, pack, wav
from tests.unit.data.factory import write_tone

TABLES = Path(__file__).parent / "tables"
ROOT = "/corpus"
SPLITS = {"train": 26, "dev": 4, "test": 3}
_COLUMNS = "client_id path sentence up_votes down_votes age gender accent".split()
_SENTENCES = {
    "fr": "L’homme n° {i} dit : « Aujourd’hui ! »",
    "en": "“It costs {i}.50 pounds”, he said.",
    "zh": "那个 女人，看见了 {i}。",
}
_CODES = {"zh": "zh-CN"}


def make_covost2(root: Path) -> None:
    """Common Voice clips of three languages; translations of French, and of English into two."""
    for lang, sentence in _SENTENCES.items():
        folder = root / "commonvoice" / _CODES.get(lang, lang)
        rows: dict[str, list[str]] = {split: [] for split in SPLITS}
        number = 0
        for split, count in SPLITS.items():
            for i in range(count):
                number += 1
                name = f"common_voice_{lang}_{number}.mp3"
                # The first two are too short and too long for stage 4.
                seconds = {0: 0.05, 1: 2.5}.get(i, 0.3 + 0.01 * number)
                write_tone(folder / "clips" / name, seconds, 48000)
                speaker = f"{number // 3:08x}".ljust(128, "0")
                text = sentence.format(i=number)
                rows[split].append("\t".join([speaker, name, text, "2", "0", "", "", ""]))
        _write_tsv(folder / "validated.tsv", _COLUMNS, [r for part in rows.values() for r in part])
        for split, part in rows.items():
            _write_tsv(folder / f"{split}.tsv", _COLUMNS, part)
    splits = [split for split, count in SPLITS.items() for _ in range(count)]
    (root / "covost2").mkdir()
    for pair, text in (
        ("fr_en", 'The man said: "{i}".'),
        ("en_de", "Der Mann sagte: „{i}“."),
        ("en_ca", "L’home va dir: «{i}»."),
    ):
        source = pair.partition("_")[0]
        pairs = [
            f"common_voice_{source}_{i}.mp3\t{text.format(i=i)}\t{split}"
            for i, split in enumerate(splits, 1)
            if pair != "en_de" or i % 2
        ]
        path = root / "covost2" / f"covost_v2.{pair}.tsv"
        _write_tsv(path, ["path", "translation", "split"], pairs)


def _write_tsv(path: Path, columns: list[str], rows: list[str]) -> None:
    path.write_text("".join(f"{row}\n" for row in ["\t".join(columns), *rows]), encoding="utf-8")


def make_speech(root: Path) -> None:
    """LibriSpeech and AISHELL-1, of which a speaker is still in an archive."""
    make_librispeech(root)
    make_aishell(root)
    recordings = [*root.glob("LibriSpeech/*/*/*/*.flac"), *root.glob("data_aishell/wav/*/*/*.wav")]
    for number, path in enumerate(sorted(recordings)):
        # Two are too short and too long for stage 4; every fifth has another rate.
        seconds = {flac(root): 0.05, wav(root): 2.5}.get(path, 0.3 + 0.01 * number)
        write_tone(path, seconds, 16000 if number % 5 else 8000)
    pack(root, "train", "S0003")


def run_covost2(root: Path, n_jobs: int) -> None:
    """Stages 1 to 4 of the recipe, in `root`."""
    data, dump = root / "data", root / "dump"
    corpora = ["--commonvoice", f"{root}/commonvoice", "--covost2", f"{root}/covost2"]
    what = ["--langs", "fr en zh", "--st_pairs", "fr-en en-de en-ca", "--out", str(data)]
    _run(prepare_corpus, ["covost2", *corpora, *what, "--nj", str(n_jobs)])
    _run(perturb_speed, [f"{data}/train", f"{data}/train_sp", "--factors", "0.9 1.0"])
    for split in ("train_sp", "dev", "test"):
        org = f"{dump}/org/{split}"
        _run(format_audio, [f"{data}/{split}", org, "--nj", str(n_jobs)])
        _run(filter_data_dir, [org, f"{dump}/{split}", "--max_wav_duration", "2"])


def run_speech(root: Path, n_jobs: int) -> None:
    """Stages 1 to 4 of the bilingual recipes, in `root`."""
    data, dump = root / "data", root / "dump"
    what = ["--librispeech", str(root), "--aishell", str(root), "--train_subset", "100"]
    where = ["--unpack_dir", f"{root}/unpacked", "--out", str(data), "--nj", str(n_jobs)]
    _run(prepare_corpus, ["librispeech", *what, *where])
    for split in ("train", "dev", "aishell_test"):
        org = f"{dump}/org/{split}"
        _run(format_audio, [f"{data}/{split}", org, "--nj", str(n_jobs)])
        _run(filter_data_dir, [org, f"{dump}/{split}", "--max_wav_duration", "2"])


def _run(command, argv: list[str]) -> None:
    if command.main(argv) != 0:
        raise RuntimeError(f"{command.__name__} {' '.join(argv)} failed")


def tables(root: Path) -> dict[str, str]:
    """Content of all tables by path, with a name in place of the directory."""
    paths = [*root.glob("data/*/*"), *root.glob("dump/*/*"), *root.glob("dump/org/*/*")]
    return {
        str(path.relative_to(root)): path.read_text("utf-8").replace(str(root), ROOT)
        for path in sorted(paths)
        if path.is_file()
    }


@dataclass(frozen=True)
class Case:
    """A corpus of which tables are stored.

    Attributes:
        make: writes the corpus into a directory.
        run: stages 1 to 4 there, with a number of workers.
        kept: beginnings of the stored tables' names; other tables say the same again.
    """

    make: Callable[[Path], None]
    run: Callable[[Path, int], None]
    kept: tuple[str, ...]


CASES = {
    "covost2": Case(make_covost2, run_covost2, ("data/dev/", "dump/train_sp/")),
    "speech": Case(make_speech, run_speech, ("data/train/", "data/aishell_test/", "dump/train/")),
}


def main() -> None:
    """Replace the tables."""
    shutil.rmtree(TABLES, ignore_errors=True)
    for case, corpus in CASES.items():
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            corpus.make(root)
            corpus.run(root, 1)
            for name, content in tables(root).items():
                if name.startswith(corpus.kept):
                    (TABLES / case / name).parent.mkdir(parents=True, exist_ok=True)
                    (TABLES / case / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
