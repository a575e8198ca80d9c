# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "tools" / "benchmarks" / "format_audio.py"


def test_benchmark_of_format_audio(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--files", "2", "--seconds", "0.5", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "figures")], capture_output=True, text=True, check=True
    )
    rows = json.loads((tmp_path / "figures").read_text())
    assert len(rows) == 6
    for row in rows:
        assert row["case"] in done.stdout
        assert row["format_audio_h_per_min"] > 0
        assert row["ratio"] > 0
