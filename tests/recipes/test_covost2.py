# SPDX-License-Identifier: Apache-2.0
"""The recipe for CoVoST 2, on the mini corpus in its layout, as a user runs it."""

import json
import re
from pathlib import Path

import pytest

from .test_mini import copy_recipe, run

# One language and one pass over it: that scores are good is tested with mini_objsoup.
QUICK = [
    "--mini", "true", "--size", "tiny", "--langs", "fr", "--st_pairs", "fr-en", "--nj", "1",
    "--inference_nj", "1", "--train_args", "--max_epoch 1 --keep_nbest_models 1",
    "--inference_config", "conf/quick.yaml",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    recipe = copy_recipe(tmp_path_factory.mktemp("covost2")) / "covost2_objsoup"
    decoding = (recipe / "conf" / "decode.yaml").read_text().replace("beam_size: 5", "beam_size: 1")
    (recipe / "conf" / "quick.yaml").write_text(decoding)
    done = run(recipe, *QUICK)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return recipe, done.stdout + done.stderr


def test_all_stages_on_the_mini_corpus(finished: tuple[Path, str]) -> None:
    recipe, output = finished
    assert (recipe / "downloads/mini_tiny/commonvoice/fr/clips").is_dir()
    assert (recipe / "downloads/mini_tiny/covost2/covost_v2.fr_en.tsv").exists()
    for stage in (1, 2, 3, 4, 5, 10, 11, 12, 13):
        assert re.search(rf"\[{stage}/13\] .*: done in \d+ s", output), stage
    assert "train: asr/fr 250, st/fr-en 250" in output
    (path,) = recipe.glob("exp_mini_tiny/*/scores.json")
    scores = json.loads(path.read_text())["test"]
    assert {"asr/fr", "st/fr-en"} <= set(scores)
    assert "|asr/fr|24|" in (path.parent / "RESULTS.md").read_text()


def test_finished_stages_are_not_repeated(finished: tuple[Path, str]) -> None:
    again = run(finished[0], *QUICK)
    assert again.returncode == 0
    assert again.stdout.count("already done") == 9


def test_the_real_layout_is_read_from_where_it_lies(finished: tuple[Path, str]) -> None:
    recipe = finished[0]
    raw = recipe / "downloads" / "mini_tiny"
    arguments = ["--langs", "fr", "--st_pairs", "fr-en", "--stop_stage", "1", "--nj", "2"]
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
    failed = run(recipe, *arguments, "--stop_stage", "5", COMMONVOICE="", COVOST2="")
    assert failed.returncode != 0
    assert re.search(message, failed.stderr)
    assert not list(recipe.glob("data*/train"))
    assert not (recipe / "downloads").exists()


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
