# SPDX-License-Identifier: Apache-2.0
"""Ten steps of a soup with either engine; tools/compare_engines.py takes 200."""

import importlib.util
from pathlib import Path

from espnet_objsoup.objectives import SoupConf

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
