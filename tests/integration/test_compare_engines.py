# SPDX-License-Identifier: Apache-2.0
"""Ten steps of a soup with either engine; tools/compare_engines.py takes 200."""

import importlib.util
from pathlib import Path

import torch

from espnet_objsoup.objectives import SoupConf

from .test_distributed import torchrun

SCRIPT = Path(__file__).parents[2] / "tools" / "compare_engines.py"
spec = importlib.util.spec_from_file_location("compare_engines", SCRIPT)
compare_engines = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compare_engines)


def test_engines_train_alike(tmp_path: Path) -> None:
    SoupConf.from_dict(compare_engines.SOUP)
    found = compare_engines.compare(tmp_path, steps=10, utterances=24)
    assert found["steps"] >= 10
    assert found["weights"] < 1e-9
    assert found["numerators"] < 1e-9
    assert found["model"] < 1e-8
    assert found["selected"] == 0
    assert found["moved"] > 1e-3


def test_engines_train_alike_on_two_processes(tmp_path: Path) -> None:
    """From the command to the soup: the same weights on every process, whatever the engine."""
    compare_engines.prepare(tmp_path, 48)
    found = []
    for engine in ("grouped", "reference"):
        torchrun(2, "-m", "tests.integration.engines_worker", str(tmp_path), engine)
        found += [torch.load(tmp_path / f"{engine}_{rank}.pth") for rank in range(2)]
    assert found[0]["steps"] >= 8
    for other in found[1:]:
        torch.testing.assert_close(other["weights"], found[0]["weights"], rtol=1e-7, atol=1e-9)
        assert torch.equal(other["selected"], found[0]["selected"])
    assert torch.equal(found[0]["weights"], found[1]["weights"])
    assert float(found[0]["weights"].max() - found[0]["weights"].min()) > 1e-3
    models = [
        torch.load(tmp_path / engine / "checkpoint.pth", weights_only=True)["model"]
        for engine in ("grouped", "reference")
    ]
    for name, value in models[0].items():
        torch.testing.assert_close(models[1][name], value, rtol=1e-6, atol=1e-9)
