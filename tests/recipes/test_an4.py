# SPDX-License-Identifier: Apache-2.0
"""Real recorded speech (AN4, NIST sphere files) through stages 1 to 13."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile

from .copies import ROOT, copy_recipe, run


@pytest.fixture(scope="module")
def an4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = copy_recipe(tmp_path_factory.mktemp("an4")) / "an4"
    shutil.copytree(ROOT / "tests" / "recipes" / "an4", recipe)
    finished = run(recipe, "--tag", "real", "--test_sets", "test dev")
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return recipe


def test_sphere_files_become_flac(an4: Path) -> None:
    lines = (an4 / "dump/raw/train/wav.scp").read_text().splitlines()
    assert len(lines) == 5
    for line in lines:
        info = soundfile.info(an4 / line.split(" ", 1)[1])
        assert (info.format, info.samplerate) == ("FLAC", 16000)


def test_model_recognises_what_it_was_trained_on(an4: Path) -> None:
    # `dev` is the training data again: five utterances have no more to give.
    scores = json.loads((an4 / "exp/real/scores.json").read_text())
    assert set(scores["dev"]) == {"asr/en", "asr/mean", "asr_ctc/en", "asr_ctc/mean"}
    assert scores["dev"]["asr/en"]["cer"] < 20
    assert scores["test"]["asr/en"]["sentences"] == 2
