# SPDX-License-Identifier: Apache-2.0
"""One small untrained model for all tests, and noise for it to hear."""

from pathlib import Path

import numpy as np
import pytest

from ..experiment import make_experiment


@pytest.fixture(scope="session")
def small_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_experiment(tmp_path_factory.mktemp("exp"))


@pytest.fixture(scope="session")
def small(small_experiment: Path):
    from espnet_objsoup.inference import SearchOptions, SegmentOptions, Speech2Text

    options = SearchOptions(beam_size=3, ctc_weight=0.4, maxlenratio=-5, minlenratio=-2)
    return Speech2Text(
        small_experiment / "config.yaml",
        small_experiment / "model.pth",
        options=options,
        segments=SegmentOptions(max_segment_s=1.2),
    )


@pytest.fixture(scope="session")
def noises() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [0.3 * draw.standard_normal(n).astype(np.float32) for n in (8000, 17000, 11000, 14000)]
