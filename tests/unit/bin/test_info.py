# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import espnet_objsoup
from espnet_objsoup.bin import info
from espnet_objsoup.zoo.pack import PackRequest, pack
from tests.unit.zoo.packages import (
    OBJECTIVES,
    OPTIONS,
    SCORES,
    TAG,
    make_recipe,
    package,
    save_weights,
    write_zip,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recipe")
    pack(PackRequest(make_recipe(root), license="cc-by-4.0", recipe="x_objsoup"))
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBJSOUP_CACHE", str(tmp_path / "cache"))


def test_as_json(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(recipe / "exp" / f"{TAG}.zip")
    assert info.main([source, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    expected = {
        "model": source, "packed": True, "name": TAG, "objectives": OBJECTIVES,
        "languages": ["en", "fr"], "translations": ["fr-en"], "license": "cc-by-4.0",
        "recipe": "x_objsoup", "corpus": None, "sample_rate_hz": 16000, "vocabulary": 7,
        "token_type": "bpe", "parameters": 6, "scores": SCORES, "decoding": OPTIONS,
        "weights": "valid.loss.ave_2best.pth",
    }  # fmt: skip
    assert {key: values[key] for key in expected} == expected
    assert values["versions"]["espnet_objsoup"] == espnet_objsoup.__version__
    assert values["soup"]["levels"][1]["coefficient"] == 0.14
    size = (recipe / "exp" / TAG / "valid.loss.ave_2best.pth").stat().st_size
    assert values["weights_bytes"] == size


@pytest.mark.parametrize("source", [f"{TAG}.zip", TAG])
def test_as_text(recipe: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main([str(recipe / "exp" / source)]) == 0
    text = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in text.splitlines()]
    packed = source.endswith("zip")
    for line in (
        f"model {TAG} ({'packed' if packed else 'experiment'})",
        "objectives asr/en, asr/fr, st/fr-en",
        "soup bilevel, order as",
        f"licence {'cc-by-4.0' if packed else 'none stated'}",
        "vocabulary 7 tokens (bpe)",
        "decoding beam_size 3, ctc_greedy True, ctc_weight 0.5, nbest 1",
        "1 1 asr/fr 0.75 modo",
        "2 0.14 st/fr-en 1 modo linear",
        "fr yes en",
        "scores of test",
        "asr/en 2 10.0 3.0",
        "st/fr-en 2 41.3 60.0",
    ):
        assert line in lines


def test_an_archive_that_says_nothing_of_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = save_weights(tmp_path / "w.pth").read_bytes()
    path = write_zip(tmp_path / "m.zip", *package(weights).items())
    assert info.main([str(path)]) == 0
    text = capsys.readouterr().out
    assert "scores: not recorded" in text
    assert "licence     none stated" in text


def test_strange_words_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = save_weights(tmp_path / "w.pth").read_bytes()
    entries = package(weights, corpus="\x1b]0;owned\x07\x1b[2Jours", license="a\u202eb")
    assert info.main([str(write_zip(tmp_path / "m.zip", *entries.items()))]) == 0
    text = capsys.readouterr().out
    assert "ours" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main([str(tmp_path / "no.zip")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    with pytest.raises(SystemExit) as caught:
        info.main([])
    assert caught.value.code == 2


def test_a_reader_that_has_seen_enough(recipe: Path) -> None:
    command = [sys.executable, "-m", "espnet_objsoup.bin.info", str(recipe / "exp" / TAG)]
    read, write = os.pipe()
    os.close(read)
    finished = subprocess.run(
        command, stdout=write, stderr=subprocess.PIPE, cwd=ROOT, text=True, check=False
    )
    os.close(write)
    assert (finished.returncode, finished.stderr) == (0, "")
