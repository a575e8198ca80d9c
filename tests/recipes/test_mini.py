# SPDX-License-Identifier: Apache-2.0
"""The mini recipe, tiny size, stages 1 to 13, as a user runs it."""

import json
import re
import resource
import shutil
from pathlib import Path

import pytest

from .copies import ROOT, check_all_stages, copy_recipe, run


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    recipe = copy_recipe(tmp_path_factory.mktemp("mini")) / "mini_objsoup"
    finished = run(recipe, "--size", "tiny")
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return recipe, finished.stdout


def test_scores_of_every_objective(mini: tuple[Path, str]) -> None:
    (path,) = mini[0].glob("exp_tiny/*/scores.json")
    scores = json.loads(path.read_text())["test"]
    recognition = {"asr/de", "asr/en", "asr/fr", "asr/mean"}
    translation = {"st/de-en", "st/fr-en", "st/mean"}
    assert recognition | translation <= set(scores)
    assert {name.replace("asr/", "asr_ctc/") for name in recognition} <= set(scores)
    # Two minutes of training do not make a good model, but not a random one either.
    assert scores["asr/mean"]["wer"] < 100
    results = (path.parent / "RESULTS.md").read_text()
    assert "|asr/fr|24|" in results
    assert "run.sh" in results


def test_training_learns(mini: tuple[Path, str]) -> None:
    (log,) = mini[0].glob("exp_tiny/*/train.log")
    lines = [line for line in log.read_text().splitlines() if "epoch results" in line]
    losses = {
        split: [float(re.search(rf"\[{split}\].*?[ ,]loss=([\d.]+)", line)[1]) for line in lines]
        for split in ("train", "valid")
    }
    assert len(lines) == 10
    # 750 utterances are soon learnt by heart: unseen ones follow less far.
    assert losses["train"][-1] < 0.5 * losses["train"][0]
    assert losses["valid"][-1] < 0.75 * losses["valid"][0]
    assert "to go: epoch" in log.read_text()


def test_every_stage_says_what_it_made_and_how_long_it_took(mini: tuple[Path, str]) -> None:
    check_all_stages(mini[1])
    for stage in (6, 7, 8, 9):
        assert f"[{stage}/13] reserved" in mini[1]
    assert "750, dev 72, test 72" in mini[1]
    assert "real-time factor" in mini[1]


def test_finished_stages_are_not_repeated(mini: tuple[Path, str]) -> None:
    # Time of the processor: the tests may share it with other work.
    start = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    again = run(mini[0], "--size", "tiny")
    assert again.returncode == 0
    assert again.stdout.count("already done") == 9
    assert sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - start < 60


def test_changed_option_runs_its_stage_and_those_after(mini: tuple[Path, str]) -> None:
    changed = run(mini[0], "--size", "tiny", "--nbpe", "140", "--stop_stage", "5")
    assert changed.returncode == 0, changed.stderr
    assert changed.stdout.count("already done") == 4
    assert "[5/5] make the token list: done" in changed.stdout
    assert (mini[0] / "data_tiny/token_list/bpe_unigram140/tokens.txt").exists()


def test_a_rare_language_keeps_a_tenth(mini: tuple[Path, str]) -> None:
    directories = ["--datadir", "data_rare", "--dumpdir", "dump_rare", "--expdir", "exp_rare"]
    data = ["--size", "tiny", *directories, "--local_data_opts", "--size tiny --rare fr"]
    made = run(mini[0], *data, "--stop_stage", "1")
    assert made.returncode == 0, made.stdout + made.stderr
    langs = (mini[0] / "data_rare/train/utt2lang").read_text().split()[1::2]
    assert {lang: langs.count(lang) for lang in langs} == {"en": 250, "fr": 25, "de": 250}
    assert len((mini[0] / "data_rare/dev/utt2lang").read_text().splitlines()) == 72
    data[-1] = "--size tiny --rare es"
    refused = run(mini[0], *data, "--stop_stage", "1")
    assert refused.returncode == 1
    assert "--rare: expected some of the languages 'en fr de', found 'es'" in refused.stderr


def test_tracked_results_change_only_when_asked(mini: tuple[Path, str]) -> None:
    tracked = mini[0] / "RESULTS.md"
    before = tracked.read_text() if tracked.exists() else None
    assert run(mini[0], "--size", "tiny", "--stage", "13").returncode == 0
    assert (tracked.read_text() if tracked.exists() else None) == before
    # Stage 5 was run with other options above; stage 13 alone does not look at it.
    asked = run(mini[0], "--size", "tiny", "--stage", "13", "--update_results", "true")
    assert asked.returncode == 0, asked.stderr
    assert tracked.read_text() != before


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--no_such_option", "1"], 2, "unknown option --no_such_option"),
        (["--nj"], 2, "needs a value"),
        (["--size"], 2, "--size needs a value"),
        (["--size", "huge"], 2, "one of tiny, compare, default, large, found 'huge'"),
        (["stray"], 2, "expected an option"),
        (["--speed_perturb_factors", "3.0"], 2, "numbers from 0.5 to 2, found '3.0'"),
        (["--nbest", "999"], 1, "nbest: expected at most beam_size 5, found 999"),
        (["--ngpu", "1"], 2, "--ngpu: expected 1 GPU(s) of this machine"),
        (["--gpu_inference", "true"], 2, "--gpu_inference: expected 1 GPU(s) of this machine"),
        (["--size", "tiny", "--stage", "15", "--stop_stage", "15"], 2, "--hf_repo"),
    ],
    ids=str,
)
def test_usage_errors(tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    recipe = copy_recipe(tmp_path) / "mini_objsoup"
    finished = run(recipe, *arguments, CUDA_VISIBLE_DEVICES="")
    assert finished.returncode == status
    assert message in finished.stderr
    assert "[1/" not in finished.stdout
    assert not (recipe / "downloads").exists()


def test_help_lists_every_option_once(tmp_path: Path) -> None:
    finished = run(copy_recipe(tmp_path) / "mini_objsoup", "--help")
    assert finished.returncode == 0
    script = (ROOT / "egs2/TEMPLATE/objsoup1/objsoup.sh").read_text()
    declared = re.findall(r"^opt (\w+) ", script, re.MULTILINE)
    issue = (
        "stage stop_stage skip_data_prep skip_train skip_eval skip_upload ngpu num_nodes nj "
        "inference_nj gpu_inference dumpdir expdir python config inference_config inference_model "
        "tag train_set valid_set test_sets langs st_pairs speed_perturb_factors token_type nbpe fs "
        "audio_format min_wav_duration max_wav_duration init_param channel allow_pipes "
        "keep_unlabelled nbest"
    ).split()
    assert set(issue) <= set(declared)
    for name in (*declared, "size"):
        assert len(re.findall(rf"^  --{name} ", finished.stdout, re.MULTILINE)) == 1, name


@pytest.mark.parametrize(
    ("recipe", "arguments", "defaults"),
    [
        (
            "mini_objsoup",
            [],
            {"langs": "en fr de es", "st_pairs": "fr-en de-en es-en", "inference_nj": "2",
             "max_wav_duration": "10", "st_text_policy": "lc.rm", "datadir": "data",
             "min_wav_duration": "0.1", "size": "default"},
        ),
        ("mini_objsoup", ["--size", "tiny"], {"langs": "en fr de", "nbpe": "150", "size": "tiny"}),
        ("an4", [], {"langs": "en", "token_type": "char", "max_wav_duration": "20"}),
    ],
)  # fmt: skip
def test_help_shows_the_defaults_of_the_recipe(
    tmp_path: Path, recipe: str, arguments: list[str], defaults: dict[str, str]
) -> None:
    path = copy_recipe(tmp_path) / recipe
    if recipe == "an4":
        shutil.copytree(ROOT / "tests" / "recipes" / "an4", path)
    text = run(path, *arguments, "--help").stdout
    for name, value in defaults.items():
        assert re.search(rf"^  --{name} .* \[{re.escape(value)}\]$", text, re.MULTILINE), name


def test_a_recipe_without_sizes_has_no_such_option(tmp_path: Path) -> None:
    recipe = copy_recipe(tmp_path) / "an4"
    shutil.copytree(ROOT / "tests" / "recipes" / "an4", recipe)
    finished = run(recipe, "--size", "tiny")
    assert finished.returncode == 2
    assert "unknown option --size" in finished.stderr
