# SPDX-License-Identifier: Apache-2.0
"""ESPnet's own st_inference as the oracle of our search, on equal weights."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from ..experiment import CONFIG, DECODER

SCRIPT = Path(__file__).parents[3] / "tools" / "benchmarks" / "decode.py"


def test_hypotheses_are_those_of_st_inference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("benchmark_decode", SCRIPT)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    conf = {k: v for k, v in CONFIG.items() if k.startswith(("frontend", "encoder"))}
    conf |= {"frontend": "default", "encoder": "e_branchformer"}
    conf |= {"st_decoder": "transformer", "st_decoder_conf": DECODER}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(conf))
    arguments = ["--config", f"{tmp_path}/train.yaml", "--utterances", "4", "--vocabulary", "20"]
    arguments += ["--repetitions", "1", "--batch_size", "4", "--maxlenratio", "0.05"]
    assert benchmark.main([*arguments, "--json", f"{tmp_path}/out.json"]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["tokens_per_utterance"] > 3
    for name in ("objsoup, batch 1", "objsoup, batch 4"):
        assert found["agreement"][name]["equal"] == 1.0
        assert found["agreement"][name]["largest_score_gap"] < 1e-3
    assert "|objsoup, batch 4|" in capsys.readouterr().out
