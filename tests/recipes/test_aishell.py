# SPDX-License-Identifier: Apache-2.0
"""The recipe for AISHELL-1, on the mini corpus in its layout, with the archives as published."""

import json
import re
import tarfile
from pathlib import Path

import pytest

from .copies import QUICK, check_all_stages, check_refused, copy_recipe, run, run_quick


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("aishell")
    return run_quick(root, "aishell_objsoup", "--test_sets", "test")


def test_all_stages_on_the_mini_corpus(finished: tuple[Path, str]) -> None:
    recipe, output = finished
    check_all_stages(output)
    assert "train: asr/zh 250" in output
    assert "Objectives: asr/zh, ssl" in output
    (path,) = recipe.glob("exp_mini_tiny/*/scores.json")
    score = json.loads(path.read_text())["test"]["asr/zh"]
    assert score["sentences"] == 24
    assert score["cer"] > 0
    assert not (recipe / "exp_mini_tiny" / "bpe.model").exists()


def test_archives_of_speakers_are_unpacked(finished: tuple[Path, str], tmp_path: Path) -> None:
    recipe = finished[0]
    made = recipe / "downloads" / "mini_tiny" / "data_aishell"
    real = tmp_path / "data_aishell"
    (real / "wav").mkdir(parents=True)
    (real / "transcript").symlink_to(made / "transcript")
    for folder in made.glob("wav/*/*"):
        with tarfile.open(real / "wav" / f"{folder.name}.tar.gz", "w:gz") as tar:
            tar.add(folder, f"{folder.parent.name}/{folder.name}")
    done = run(recipe, "--aishell", str(tmp_path), "--stop_stage", "1", "--nj", "1")
    assert done.returncode == 0, done.stderr
    assert "utterances in train 250, dev 24, test 24" in done.stdout
    for name in ("text", "utt2spk"):
        tables = [(recipe / d / "test" / name).read_text() for d in ("data", "data_mini_tiny")]
        assert tables[0] == tables[1]
    first = (recipe / "data/test/wav.scp").read_text().split("\n")[0].split(" ")[1]
    assert first.startswith("downloads/aishell_wav/test/S")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "AISHELL: expected a folder, found nothing; set it in the environment"),
        (["--aishell", "."], "expected data_aishell/wav/ in it, found none"),
        (["--langs", "en"], "--langs: expected 'zh' (--librispeech adds en), found 'en'"),
        (["--mini", "true", "--librispeech", "/x"], "--librispeech: expected mini, with --mini"),
    ],
    ids=str,
)
def test_what_is_missing_or_wrong_is_said(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    recipe = copy_recipe(tmp_path) / "aishell_objsoup"
    words = [*arguments, "--stop_stage", "1"]
    check_refused(recipe, re.escape(message), *words, LIBRISPEECH="", AISHELL="")


def test_both_corpora(finished: tuple[Path, str]) -> None:
    recipe = finished[0]
    done = run(recipe, *QUICK, "--librispeech", "mini", "--stop_stage", "5")
    assert done.returncode == 0, done.stderr
    assert "train: asr/en 250, asr/zh 250" in done.stderr
    (tokens,) = recipe.glob("data_mini_tiny_librispeech/token_list/*/tokens.txt")
    assert {"<en>", "<zh>"} <= set(tokens.read_text().split())
