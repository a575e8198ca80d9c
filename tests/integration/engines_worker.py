# SPDX-License-Identifier: Apache-2.0
"""One process of test_compare_engines.py: an epoch with one engine, and the soup it ended with."""

import sys
from pathlib import Path
from unittest import mock

import torch

from espnet_objsoup.train.soup_run import SoupRun
from tests.integration.test_compare_engines import compare_engines


def main(work: Path, engine: str) -> None:
    runs = []
    end_step = SoupRun.end_step

    def noted(run: SoupRun) -> None:
        end_step(run)
        runs.append(run)

    with (
        mock.patch.object(SoupRun, "end_step", noted),
        compare_engines.ctc_in_double_precision(),
    ):
        compare_engines.train(work, engine, 1, "--dist_backend", "gloo")
    rank = torch.distributed.get_rank()
    found = {"weights": runs[-1].soup.weights, "selected": torch.tensor(runs[-1].selector.selected)}
    torch.save({**found, "steps": len(runs)}, work / f"{engine}_{rank}.pth")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
