# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from espnet_objsoup.bin import check_config
from espnet_objsoup.bin.check_config import statistics_options
from espnet_objsoup.evaluation import bleu_tokenizers


@pytest.mark.parametrize(
    ("conf", "train_args"),
    [
        ({"optim": "sgd", "optim_conf": {"lr": 1}}, ""),
        ({"trainer": "objsoup", "trainer_conf": {"recipe": "flat"}}, ""),
        ({"asr_decoder": "rnn", "st_decoder_conf": {"x": 1}}, ""),
        ({"model_conf": {"asr_ctc_weight": 0.3}}, ""),
        ({"specaug": "specaug", "normalize": "global_mvn"}, ""),
        ({}, "--max_epoch 3 --optim_conf lr=0.1"),
        ({}, "--batch_bins=3"),
        ({"objectives": ["ssl"], "ssl": "cpc"}, ""),
    ],
)
def test_what_statistics_do_not_depend_on(conf: dict, train_args: str) -> None:
    assert statistics_options(conf, train_args) == {}


@pytest.mark.parametrize(
    ("conf", "train_args"),
    [
        ({"frontend_conf": {"n_mels": 40}}, ""),
        ({"input_size": 80}, ""),
        ({"cleaner": "tacotron"}, ""),
        ({"model_conf": {"extract_feats_in_collect_stats": False}}, ""),
        ({"an_option_of_tomorrow": 1}, ""),
        ({}, "--max_epoch 3 --frontend_conf n_mels=40"),
    ],
)
def test_what_statistics_depend_on(conf: dict, train_args: str) -> None:
    assert len(statistics_options(conf, train_args)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: c: d\n", "c.yaml:2: expected YAML, found 'b: c: d'"),
        ("a: 1\n\tb: 2\n", "c.yaml:2: expected YAML"),
        ("- a\n", "c.yaml: expected `option: value` lines"),
        ("", "c.yaml: expected `option: value` lines"),
    ],
)
def test_mistakes_name_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert check_config.main(["--config", str(tmp_path / "c.yaml")]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_the_checksum_is_all_that_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("max_epoch: 3\n")
    assert check_config.main(["--config", str(tmp_path / "c.yaml")]) == 0
    assert len(capsys.readouterr().out.strip()) == 64


@pytest.mark.parametrize(
    ("conf", "decoding", "message"),
    [
        (
            "trainer: objsoup\ntrainer_conf: {gama: 1}",
            "",
            "train.yaml: trainer_conf: unknown key gama",
        ),
        ("trainer: sgd", "", "train.yaml: trainer: expected default or objsoup, found 'sgd'"),
        ("trainer: ObjSoup", "beam_size: 0", "decode.yaml: "),
    ],
)
def test_soups_and_searches_are_checked_before_anything_starts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    conf: str,
    decoding: str,
    message: str,
) -> None:
    (tmp_path / "train.yaml").write_text(conf)
    (tmp_path / "decode.yaml").write_text(decoding)
    arguments = ["--config", f"{tmp_path}/train.yaml"]
    assert check_config.main([*arguments, "--inference_config", f"{tmp_path}/decode.yaml"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("nbest", "status"), [("4", 0), ("5", 1)])
def test_more_hypotheses_than_the_beam_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture, nbest: str, status: int
) -> None:
    (tmp_path / "train.yaml").write_text("max_epoch: 3\n")
    (tmp_path / "decode.yaml").write_text("beam_size: 4\nnbest: 2\n")
    arguments = ["--config", f"{tmp_path}/train.yaml", "--inference_config"]
    assert check_config.main([*arguments, f"{tmp_path}/decode.yaml", "--nbest", nbest]) == status
    message = f"{tmp_path}/decode.yaml: decoding options: nbest: expected at most beam_size 4"
    assert (message in capsys.readouterr().err) == bool(status)


def test_what_bleu_lacks_is_said_before_the_first_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text("optim: adam\n")
    command = ["--config", str(tmp_path / "c.yaml"), "--st_pairs"]
    assert check_config.main([*command, "en-ja ja-en"]) == 0
    monkeypatch.setattr(bleu_tokenizers, "find_spec", lambda name: None)
    assert check_config.main([*command, "ja-en en-de"]) == 0  # only targets are cut into words
    assert check_config.main([*command, "en-zh-CN zh-CN-en"]) == 0  # the target is zh
    assert check_config.main([*command, "zh-CN-ja"]) == 1
    assert check_config.main([*command, "en-ja"]) == 1
    assert "MeCab, ipadic for ja: pip install 'sacrebleu[ja]'" in capsys.readouterr().err
