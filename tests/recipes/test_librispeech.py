# SPDX-License-Identifier: Apache-2.0
"""The recipe for LibriSpeech with AISHELL-1, on the mini corpus in their layout."""

import json
import re
from pathlib import Path

import pytest

from .copies import check_all_stages, check_refused, copy_recipe, run, run_quick

BILINGUAL = ["--aishell", "mini", "--test_sets", "test_clean aishell_test"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return run_quick(tmp_path_factory.mktemp("librispeech"), "librispeech_objsoup", *BILINGUAL)


def test_all_stages_for_both_languages(finished: tuple[Path, str]) -> None:
    recipe, output = finished
    check_all_stages(output)
    assert "train: asr/en 250, asr/zh 250" in output
    assert "Objectives: asr/en, asr/zh, ssl" in output
    (path,) = recipe.glob("exp_mini_tiny_aishell/*/scores.json")
    scores = json.loads(path.read_text())
    assert {name: scores[name]["asr/mean"]["cer"] > 0 for name in scores} == {
        "test_clean": True, "aishell_test": True,
    }  # fmt: skip
    assert scores["test_clean"]["asr/en"]["sentences"] == 24
    assert scores["aishell_test"]["asr/zh"]["sentences"] == 24
    # A token for each Chinese character, pieces for English.
    (tokens,) = recipe.glob("data_mini_tiny_aishell/token_list/*/tokens.txt")
    names = tokens.read_text().split()
    assert {"<en>", "<zh>", "▁the"} <= set(names)
    assert not [n for n in names if re.search(r"[\u4e00-\u9fff].", n)]


def test_one_language_alone_from_the_real_layout(finished: tuple[Path, str]) -> None:
    recipe = finished[0]
    raw = recipe / "downloads" / "mini_tiny"
    options = ["--train_subset", "100", "--stop_stage", "1", "--nj", "1"]
    done = run(recipe, *options, LIBRISPEECH=str(raw))
    assert done.returncode == 0, done.stderr
    again = run(recipe, *options, "--librispeech", str(raw / "LibriSpeech"))
    # Another place may hold other data.
    assert "[1/1] prepare the corpus: done" in again.stdout
    names = {p.name for p in (recipe / "data_100").iterdir() if p.name[0] != "."}
    assert names == {"train", "dev", "dev_clean", "dev_other", "test_clean", "test_other"}
    for name in ("text", "utt2spk", "spk2utt"):
        alone = (recipe / "data_100" / "test_other" / name).read_text()
        assert alone == (recipe / "data_mini_tiny_aishell" / "test_other" / name).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "LIBRISPEECH: expected a folder, found nothing; set it in the environment"),
        (["--librispeech", "."], "expected LibriSpeech/train-clean-100 and the like in it"),
        (["--train_subset", "500"], "--train_subset: expected one of 100, 460, 960, found '500'"),
        (["--langs", "en zh"], "--langs: expected 'en' (--aishell adds zh), found 'en zh'"),
        (["--st_pairs", "en-de"], "--st_pairs: expected nothing: the corpus has no translations"),
        (["--mini", "true", "--aishell", "/x"], "--aishell: expected mini, with --mini true"),
    ],
    ids=str,
)
def test_what_is_missing_or_wrong_is_said(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    recipe = copy_recipe(tmp_path) / "librispeech_objsoup"
    words = [*arguments, "--stop_stage", "1"]
    check_refused(recipe, re.escape(message), *words, LIBRISPEECH="", AISHELL="")


def test_unlabelled_audio_is_kept(finished: tuple[Path, str]) -> None:
    help_text = run(finished[0], "--unlabelled_subset", "960", "--help").stdout
    assert re.search(r"^  --keep_unlabelled .* \[true\]$", help_text, re.MULTILINE)
    assert re.search(r"^  --datadir .* \[data_unlabelled960\]$", help_text, re.MULTILINE)
