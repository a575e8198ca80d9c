# SPDX-License-Identifier: Apache-2.0
"""The benchmark of a training step, at a miniature size."""

import json
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[3] / "tools" / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts can be imported; threads are as before."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def result(benchmarks: None, tmp_path: Path, capsys: pytest.CaptureFixture) -> dict:
    import step

    arms = ["refresh, third", "scan", "reference", "mtl_backward", "autogram", "per objective"]
    command = ["--sizes", "tiny", "--objectives", "3", "--quick", "--threads", "1"]
    command += ["--repetitions", "1", "--utterances", "12", "--arms", *arms]
    assert step.main([*command, "--json", f"{tmp_path}/step.json"]) == 0
    assert "|tiny|3|refresh, third|" in capsys.readouterr().out
    return json.loads((tmp_path / "step.json").read_text())


def test_figures(result: dict) -> None:
    """Every arm runs; the grouped arms do as many operations as the arithmetic says."""
    from step_predict import counted, predict
    from step_setup import SIZES, Data

    assert result["threads"] == 1
    assert result["commit"]
    rows = {row["arm"]: row for row in result["results"]}
    assert len(rows) == 7
    assert not [row for row in rows.values() if "failed" in row]
    assert rows["plain"]["wall_s_ratio"] == rows["plain"]["bytes_ratio"] == 1.0
    data = Data(12, (1.0, 2.0))
    for arm, layers in (("plain", 0), ("refresh, third", 1), ("scan", 3)):
        expected = counted(predict(SIZES["tiny"], data, 3, layers))
        assert rows[arm]["operations"] == pytest.approx(expected, rel=0.05)
    assert 1.0 < rows["refresh, third"]["operations_ratio"] < rows["scan"]["operations_ratio"]
    assert rows["scan"]["operations_ratio"] < rows["reference"]["operations_ratio"]
    assert all(row["bytes"] > 0 and row["cpu_s_ratio"] > 0 for row in rows.values())


def test_operations_of_a_depthwise_convolution(benchmarks: None) -> None:
    """Each gradient takes what the convolution takes: 2 * B * C * T * k."""
    from step_counts import operations

    conv = torch.nn.Conv1d(6, 6, 3, padding=1, groups=6)
    x = torch.randn(2, 6, 10, requires_grad=True)
    assert operations(lambda: conv(x).sum().backward()) == 3 * 2 * 2 * 6 * 10 * 3


def test_peak_of_memory(benchmarks: None) -> None:
    """What is held at the same time counts, not what is allocated in all."""
    from step_counts import peak_bytes

    def step() -> None:
        for _ in range(3):
            a = torch.empty(250_000)
            b = torch.empty(125_000)
            del a, b

    assert peak_bytes(step, "cpu") == 1_500_000


def test_batches_differ_in_languages_only(benchmarks: None) -> None:
    from step_setup import Data, make_batch, objectives_of

    data = Data()
    _, few = make_batch(3, data, 500)
    _, many = make_batch(41, data, 500)
    assert len(objectives_of(41)) == 41
    for name in few:
        assert torch.equal(few[name], many[name]) == (name not in ("lang", "tgt_lang"))
    assert torch.equal(few["tgt_lang"] < 0, many["tgt_lang"] < 0)
    counts = torch.bincount(many["lang"][:, 0])
    assert counts.min() >= 2
    with pytest.raises(ValueError, match="expected at least 48 for K = 41, found 47"):
        make_batch(41, Data(utterances=47), 500)
