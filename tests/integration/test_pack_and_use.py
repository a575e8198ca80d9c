# SPDX-License-Identifier: Apache-2.0
"""A model that was packed is the model that was decoded: in another directory, process and HOME.

A model with random weights, decoded by stage 12's command; with statistics and a BPE model for each
group of languages, which its configuration names absolutely.
"""

import io
import json
import os
import re
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from espnet_objsoup.bin import decode, pack
from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio import AudioFormat, format_audio
from espnet_objsoup.data.bpe_model import archive

from ..unit.data.factory import make_data, write_tone
from ..unit.experiment import CONFIG, make_experiment

ROOT = Path(__file__).parents[2]
TEXT = ("abc abcd bcd", "fghi ghij hij", "abcdefghij", "jihgfedcba")


def bpe_model(seed: int) -> bytes:
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT[seed:] * 20),
        model_writer=content,
        vocab_size=16,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return content.getvalue()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recipe")
    tokens = root / "data/token_list/groups"
    tokens.mkdir(parents=True)
    (tokens / "bpe.model").write_bytes(archive({("en",): bpe_model(0), ("fr",): bpe_model(1)}))
    stats = root / "exp/stats/train/feats_stats.npz"
    stats.parent.mkdir(parents=True)
    draw = np.random.default_rng(0).standard_normal(20)
    np.savez(stats, count=100, sum=draw * 100, sum_square=100 * (draw**2 + 4))
    exp = make_experiment(
        root / "exp/tag", token_type="bpe", bpemodel=str(tokens / "bpe.model"),
        normalize="global_mvn", normalize_conf={"stats_file": str(stats)},
    )  # fmt: skip
    (exp / "model.pth").rename(exp / "valid.loss.ave.pth")
    assert CONFIG["token_type"] == "char"  # is replaced
    data = format_audio(
        make_data(write_tone(root / "x.wav", 0.9)), root / "dump/raw/test", AudioFormat(), 1
    )
    datadir.write(data, root / "dump/raw/test")
    (root / "decode.yaml").write_text("beam_size: 2\nctc_weight: 0.9\nmaxlenratio: 0.3\n")
    status = decode.main(
        ["--train_config", f"{exp}/config.yaml", "--model_file", f"{exp}/valid.loss.ave.pth",
         "--data_dir", f"{root}/dump/raw/test", "--config", f"{root}/decode.yaml",
         "--output_dir", f"{exp}/decode_decode_valid.loss.ave/test"]
    )  # fmt: skip
    assert status == 0
    return root


def test_the_cards_example_runs(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "tag.zip"
    assert pack.main(["--exp_dir", f"{recipe}/exp/tag", "--out", str(target)]) == 0
    with zipfile.ZipFile(target) as packed:
        card = packed.read("README.md").decode()
    (code,) = re.findall(r"^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)
    write_tone(tmp_path / "clip.wav", 0.9)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OBJSOUP_CACHE", str(tmp_path / "cache"))
    capsys.readouterr()
    (tmp_path / "example.py").write_text(code)
    runpy.run_path("example.py")
    recognised, translated = capsys.readouterr().out.splitlines()
    assert recognised != translated


def test_the_same_text_from_anywhere(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe)
    assert pack.main(["--exp_dir", "exp/tag"]) == 0
    monkeypatch.chdir("/")
    again = tmp_path / "tag.zip"
    assert pack.main(["--exp_dir", f"{recipe}/exp/tag", "--out", str(again)]) == 0
    assert again.read_bytes() == (recipe / "exp/tag.zip").read_bytes()

    # What the experiment's configuration names is out of reach then.
    (recipe / "exp").rename(tmp_path / "moved")
    (recipe / "data").rename(tmp_path / "data moved")
    (tmp_path / "home").mkdir()
    kept = ("PATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    decoded = tmp_path / "moved/tag/decode_decode_valid.loss.ave/test"
    worker = ROOT / "tests/integration/pretrained_worker.py"
    ways = ("from_pretrained", "ModelDownloader", "default options")
    finished = subprocess.run(
        [sys.executable, str(worker), "tag.zip", str(recipe / "dump/raw/test"), str(decoded),
         "--root", str(recipe), "--ways", *ways],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    report = json.loads(finished.stdout.splitlines()[-1])
    for task, count in (("asr", 3), ("st", 2)):
        for way in ways[:2]:
            assert report[f"{way} {task}"] == [count, count], finished.stderr
    # The comparison can fail: the options make a difference.
    assert report["default options asr"][0] < 3
