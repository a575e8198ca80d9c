# SPDX-License-Identifier: Apache-2.0
"""Time and memory of stage 1 on generated CoVoST 2 data, and of reading the result.

Makes Common Voice tables, files of CoVoST 2 and clips of a few bytes (stage 1 looks at their size
only), then runs prepare_corpus and validate_data_dir in processes of their own and prints a line of
JSON for each. CPU time and peak memory are those of the command's own process: with `--nj` above 1
the languages are read in others, and only the wall time says something.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.data.languages import CORPUS_CODES

# Language, target and share of the rows; a sentence and its translation.
_LANGUAGES = (
    ("fr", "en", 0.4, "Le train de {i} heures « partira » demain à {j}, n’est-ce pas ?"),
    ("de", "en", 0.3, "Um {i} Uhr sind „heute“ wieder {j} Leute über die Straße gegangen."),
    ("zh", "en", 0.1, "今天 {i} 点有 {j} 个人，从这里走过。"),
    ("en", "de", 0.2, "It isn't {i} o'clock yet, said all {j} of them."),
)
_HEADER = "client_id path sentence up_votes down_votes age gender accent".split()
_CLIPS_PER_SPEAKER = 20
# Mostly training data, some of it from outside Common Voice's own split.
_SPLITS = ("train",) * 12 + ("train_covost",) * 5 + ("dev",) + ("test",) * 2


def generate(root: Path, rows: int) -> list[str]:
    """Write a corpus with about `rows` clips; returns the directions."""
    pairs = []
    (root / "covost2").mkdir(parents=True)
    for lang, target, share, sentence in _LANGUAGES:
        code = CORPUS_CODES.get(lang, lang)
        folder = root / "commonvoice" / code
        (folder / "clips").mkdir(parents=True)
        count = round(rows * share)
        with (
            open(folder / "validated.tsv", "w", encoding="utf-8") as table,
            open(
                root / "covost2" / f"covost_v2.{code}_{target}.tsv", "w", encoding="utf-8"
            ) as pair,
        ):
            table.write("\t".join(_HEADER) + "\n")
            pair.write("path\ttranslation\tsplit\n")
            for i in range(count):
                # Real ids are hashes, so clips of a speaker do not follow each other.
                speaker = i % (count // _CLIPS_PER_SPEAKER or 1)
                client = hashlib.sha512(f"{lang}{speaker}".encode()).hexdigest()
                name = f"common_voice_{code}_{17_000_000 + i}.mp3"
                row = (client, name, sentence.format(i=i, j=7 * i), "2", "0", "", "", "")
                table.write("\t".join(row) + "\n")
                split = _SPLITS[speaker % len(_SPLITS)]
                pair.write(f'{name}\tTranslation "{i}" of {7 * i} words, roughly.\t{split}\n')
                (folder / "clips" / name).write_bytes(b"clip")
        pairs.append(f"{lang}-{target}")
    return pairs


def measure(arguments: Sequence[str]) -> dict[str, object]:
    """Run a command of the package; wall and CPU seconds, peak memory, last line.

    Raises:
        RuntimeError: if the command fails.
    """
    command = [sys.executable, "-m", *arguments]
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}\n{text}")
    return {
        "command": arguments[0].rpartition(".")[2],
        "wall_s": round(time.monotonic() - begin, 2),
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": round(used.ru_maxrss / 1024, 1),
        "last_line": text.strip().splitlines()[-1],
    }


def get_parser(description: str) -> argparse.ArgumentParser:
    """Parser of a benchmark of stage 1."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--nj", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--directory", type=Path, help="where corpora are made; else a new one")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = get_parser(__doc__)
    args = parser.parse_args(argv)
    # Fewer speakers of the smallest language would leave splits of it empty.
    if min(args.rows) < 4000:
        parser.error(f"--rows: expected at least 4000, found {min(args.rows)}")
    with tempfile.TemporaryDirectory(dir=args.directory) as scratch:
        for rows in args.rows:
            root = Path(scratch) / str(rows)
            pairs = generate(root, rows)
            langs = [pair.partition("-")[0] for pair in pairs]
            for nj in args.nj:
                out = root / f"data{nj}"
                measured = measure(
                    ["espnet_objsoup.bin.prepare_corpus", "covost2", "--nj", str(nj),
                     "--commonvoice", str(root / "commonvoice"), "--covost2", str(root / "covost2"),
                     "--langs", " ".join(langs), "--st_pairs", " ".join(pairs), "--out", str(out)]
                )  # fmt: skip
                print(json.dumps({"rows": rows, "nj": nj, **measured}), flush=True)
            splits = [str(out / split) for split in ("train", "dev", "test")]
            measured = measure(["espnet_objsoup.bin.validate_data_dir", *splits])
            print(json.dumps({"rows": rows, **measured}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
