# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "tools" / "benchmarks" / "prepare_corpus.py"


def test_benchmark_of_prepare_corpus(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--rows", "4000", "--nj", "1"]
    done = subprocess.run(
        [*command, "--directory", str(tmp_path)], capture_output=True, text=True, check=True
    )
    prepared, validated = map(json.loads, done.stdout.splitlines())
    assert "utterances in train 3400, dev 200, test 400" in prepared["last_line"]
    assert "4000 utterances: valid" in validated["last_line"]
    for row in (prepared, validated):
        assert row["wall_s"] > 0
        assert row["peak_mb"] > 10
    assert not list(tmp_path.iterdir())
