# SPDX-License-Identifier: Apache-2.0
"""Gradients that measuring has found go through DistributedDataParallel like all others."""

from pathlib import Path

import torch

from .test_distributed import torchrun


def test_gradients_are_reduced_once(tmp_path: Path) -> None:
    """Both with what every process has and with a task that one of them lacks."""
    torchrun(2, "-m", "tests.integration.reuse_worker", str(tmp_path))
    found = [torch.load(tmp_path / f"{rank}.pth") for rank in range(2)]
    assert len(found[0]) == 6
    for (name, way), gradients in found[0].items():
        expected = found[0][name, "ordinary"]
        for parameter, value in gradients.items():
            where = f"{name}, {way}: {parameter}"
            assert torch.equal(value, found[1][name, way][parameter]), where
            torch.testing.assert_close(
                value,
                expected[parameter],
                rtol=1e-6,
                # ESPnet's CTC works in single precision.
                atol=1e-6 * float(expected[parameter].abs().max()) + 1e-12,
                msg=lambda text, where=where: f"{where}: {text}",
            )
