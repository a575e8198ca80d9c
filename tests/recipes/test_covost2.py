# SPDX-License-Identifier: Apache-2.0
"""The recipe for CoVoST 2, on the mini corpus in its layout, as a user runs it."""

import json
import re
from pathlib import Path

import pytest

from .copies import QUICK, check_all_stages, check_refused, copy_recipe, run, run_quick

ONE_PAIR = ["--langs", "fr", "--st_pairs", "fr-en"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return run_quick(tmp_path_factory.mktemp("covost2"), "covost2_objsoup", *ONE_PAIR)


def test_all_stages_on_the_mini_corpus(finished: tuple[Path, str]) -> None:
    recipe, output = finished
    assert (recipe / "downloads/mini_tiny/commonvoice/fr/clips").is_dir()
    assert (recipe / "downloads/mini_tiny/covost2/covost_v2.fr_en.tsv").exists()
    check_all_stages(output)
    assert "train: asr/fr 250, st/fr-en 250" in output
    (path,) = recipe.glob("exp_mini_tiny/*/scores.json")
    scores = json.loads(path.read_text())["test"]
    assert {"asr/fr", "st/fr-en"} <= set(scores)
    assert "|asr/fr|24|" in (path.parent / "RESULTS.md").read_text()


def test_finished_stages_are_not_repeated(finished: tuple[Path, str]) -> None:
    again = run(finished[0], *QUICK, *ONE_PAIR)
    assert again.returncode == 0
    assert again.stdout.count("already done") == 9


def test_the_real_layout_is_read_from_where_it_lies(finished: tuple[Path, str]) -> None:
    recipe = finished[0]
    raw = recipe / "downloads" / "mini_tiny"
    arguments = [*ONE_PAIR, "--stop_stage", "1", "--nj", "2"]
    done = run(recipe, *arguments, COMMONVOICE=f"{raw}/commonvoice", COVOST2=f"{raw}/covost2")
    assert done.returncode == 0, done.stderr
    # The mini recipes' policy for translations differs.
    for name in ("text", "utt2spk", "utt2tgt", "spk2utt"):
        made = [(recipe / data / "train" / name).read_text() for data in ("data", "data_mini_tiny")]
        assert made[0] == made[1], name
    options = ["--commonvoice", f"{raw}/commonvoice", "--covost2", f"{raw}/covost2"]
    again = run(recipe, *arguments, *options, "--forbid_leak", "both", "--max_lost", "0")
    assert again.returncode == 0, again.stderr
    # The options of preparation have changed; the mini corpus has neither leaks nor losses.
    assert "[1/1] prepare the corpus: done" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMONVOICE: expected a folder, found nothing; set it in the environment"),
        (["--commonvoice", "."], "COVOST2: expected a folder, found nothing"),
        (["--commonvoice", "/nope"], "--commonvoice: expected a folder that this machine sees"),
        (
            ["--commonvoice", ".", "--covost2", "."],
            r"expected es/ or cv-corpus-(.|\n)*covost_v2\.ca_en\.tsv: not found",
        ),
        (
            ["--commonvoice", ".", "--covost2", ".", "--langs", "pl"],
            "langs: expected some of en fr",
        ),
        (
            ["--commonvoice", ".", "--covost2", ".", "--st_pairs", "fr-de"],
            "some of fr-en .*'fr-de'",
        ),
        (["--mini", "true", "--covost2", "x"], "--covost2: expected nothing, with --mini true"),
        (["--forbid_leak", "voices"], "expected one of none, speakers, sentences, both"),
        (["--size", "large"], "--size: expected one of tiny, default, found 'large'"),
    ],
    ids=str,
)
def test_mistakes_are_told_before_anything_is_written(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    recipe = copy_recipe(tmp_path) / "covost2_objsoup"
    check_refused(recipe, message, *arguments, "--stop_stage", "5", COMMONVOICE="", COVOST2="")


def test_download_help_without_connection(tmp_path: Path) -> None:
    recipe = copy_recipe(tmp_path) / "covost2_objsoup"
    offline = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    arguments = ["--download", "true", "--stop_stage", "1"]
    failed = run(recipe, *arguments, COMMONVOICE="", COVOST2="", **offline)
    assert failed.returncode == 1
    assert "for: en fr de es ca" in failed.stdout
    for pair in ("fr_en", "de_en", "es_en", "ca_en", "en_de"):
        assert f"covost_v2.{pair}.tsv.tar.gz" in failed.stderr
    assert "nothing was written" in failed.stderr
    assert not (recipe / "downloads").exists()
    assert not list(recipe.glob("d*"))  # neither data nor dump, with what the script notes


def test_download_of_pairs_with_regions(tmp_path: Path) -> None:
    recipe = copy_recipe(tmp_path) / "covost2_objsoup"
    offline = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    options = ["--langs", "zh-CN", "--st_pairs", "en-zh-CN sv-SE-en", "--download", "true"]
    failed = run(recipe, *options, "--stop_stage", "1", COMMONVOICE="", COVOST2="", **offline)
    assert failed.returncode == 1
    assert re.search(r"for: zh-CN en sv-SE$", failed.stdout, re.MULTILINE), failed.stdout
    for pair in ("en_zh-CN", "sv-SE_en"):
        assert f"covost_v2.{pair}.tsv.tar.gz" in failed.stderr


def test_default_is_the_papers_setting(tmp_path: Path) -> None:
    text = run(copy_recipe(tmp_path) / "covost2_objsoup", "--help").stdout
    for name, value in {
        "langs": "en fr de es ca",
        "st_pairs": "fr-en de-en es-en ca-en",
        "config": "conf/train.yaml",
        "st_text_policy": "tc",
        "mini": "false",
    }.items():
        assert re.search(rf"^  --{name} .* \[{re.escape(value)}\]$", text, re.MULTILINE), name
