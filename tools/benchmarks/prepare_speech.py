# SPDX-License-Identifier: Apache-2.0
"""Time and memory of stage 1 on generated LibriSpeech and AISHELL-1 layouts.

Makes transcripts and recordings of a few bytes (stage 1 looks at their size only), then runs
prepare_corpus and validate_data_dir in processes of their own and prints a line of JSON for each.
CPU time and peak memory are those of the command's own process and, as `ru_maxrss` has it, of the
largest of its workers.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from prepare_corpus import get_parser, measure

_PER_SPEAKER = 100
# Of 50 speakers: the rest are training data.
_LIBRISPEECH = {0: "dev-clean", 1: "dev-other", 2: "test-clean", 3: "test-other"}
_AISHELL = {0: "dev", 1: "test"}


def generate_librispeech(root: Path, rows: int) -> None:
    """Write about `rows` utterances, a chapter of 100 for each reader."""
    for number in range(rows // _PER_SPEAKER):
        reader = f"{number + 1}-{2 * number + 1}"
        part = _LIBRISPEECH.get(number % 50, "train-clean-100")
        folder = root / "LibriSpeech" / part / reader.replace("-", "/")
        folder.mkdir(parents=True)
        with open(folder / f"{reader}.trans.txt", "w") as table:
            for i in range(_PER_SPEAKER):
                table.write(
                    f"{reader}-{i:04d} IT ISN'T {i} O'CLOCK YET SAID ALL {number} OF THEM\n"
                )
                (folder / f"{reader}-{i:04d}.flac").write_bytes(b"flac")


def generate_aishell(root: Path, rows: int) -> None:
    """Write about `rows` utterances, 100 for each speaker."""
    table = root / "data_aishell" / "transcript" / "aishell_transcript_v0.8.txt"
    table.parent.mkdir(parents=True)
    with open(table, "w", encoding="utf-8") as lines:
        for number in range(rows // _PER_SPEAKER):
            split, speaker = _AISHELL.get(number % 50, "train"), f"S{number:04d}"
            folder = root / "data_aishell" / "wav" / split / speaker
            folder.mkdir(parents=True)
            for i in range(_PER_SPEAKER):
                name = f"BAC009{speaker}W{i:04d}"
                lines.write(f"{name} 今天 {i} 点 有 {number} 个 人 从 这里 走过\n")
                (folder / f"{name}.wav").write_bytes(b"wave")


LAYOUTS = {"librispeech": generate_librispeech, "aishell": generate_aishell}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = get_parser(__doc__)
    args = parser.parse_args(argv)
    if not 5000 <= min(args.rows) <= max(args.rows) <= 1_000_000:
        parser.error(f"--rows: expected 5000 to 1000000, found {args.rows}")
    with tempfile.TemporaryDirectory(dir=args.directory) as scratch:
        for rows in args.rows:
            for corpus, generate in LAYOUTS.items():
                root = Path(scratch) / f"{corpus}{rows}"
                generate(root, rows)
                command = ["espnet_objsoup.bin.prepare_corpus", corpus, f"--{corpus}", str(root)]
                command += ["--train_subset", "100"]
                for nj in args.nj:
                    out = root / f"data{nj}"
                    measured = measure([*command, "--nj", str(nj), "--out", str(out)])
                    report = {"corpus": corpus, "rows": rows, "nj": nj, **measured}
                    print(json.dumps(report), flush=True)
                measured = measure(["espnet_objsoup.bin.validate_data_dir", str(out / "train")])
                print(json.dumps({"corpus": corpus, "rows": rows, **measured}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
