# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from espnet_objsoup.bin.train import expand


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for split in ("train", "dev"):
        (tmp_path / split).mkdir()
        for name in ("wav.scp", "text", "utt2lang"):
            (tmp_path / split / name).touch()
    for split in ("train", "valid"):
        (tmp_path / "stats" / split).mkdir(parents=True)
        (tmp_path / "stats" / split / "speech_shape").touch()
    (tmp_path / "stats" / "train" / "feats_stats.npz").touch()
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "tokens.txt").touch()
    return tmp_path


def test_directories_become_espnets_options(recipe: Path) -> None:
    command = expand(
        ["--train_dir", f"{recipe}/train", "--valid_dir", f"{recipe}/dev", "--stats_dir",
         f"{recipe}/stats", "--token_dir", f"{recipe}/tokens", "--max_epoch", "3"]
    )  # fmt: skip
    pairs = list(zip(command[::2], command[1::2], strict=True))
    assert ("--train_data_path_and_name_and_type", f"{recipe}/train/text,text,text") in pairs
    assert ("--valid_data_path_and_name_and_type", f"{recipe}/dev/utt2lang,lang,text") in pairs
    assert not any("st_text" in value for _, value in pairs)
    assert ("--train_shape_file", f"{recipe}/stats/train/speech_shape") in pairs
    assert ("--token_type", "char") in pairs
    assert pairs[-1] == ("--max_epoch", "3")
    assert not any("stats_file" in value for _, value in pairs)


def test_bpe_model_and_global_statistics_are_used_where_they_belong(recipe: Path) -> None:
    (recipe / "tokens" / "bpe.model").touch()
    (recipe / "c.yaml").write_text("normalize: global_mvn\n")
    shared = ["--stats_dir", f"{recipe}/stats", "--token_dir", f"{recipe}/tokens"]
    command = expand([*shared, "--config", f"{recipe}/c.yaml"])
    assert f"stats_file={recipe}/stats/train/feats_stats.npz" in command
    assert f"{recipe}/tokens/bpe.model" in command
    command = expand([*shared, "--config", f"{recipe}/c.yaml", "--normalize", "utterance_mvn"])
    assert not any("stats_file" in word for word in command)


def test_missing_results_of_earlier_stages_are_named(recipe: Path) -> None:
    with pytest.raises(FileNotFoundError, match="stage 5"):
        expand(["--token_dir", f"{recipe}/nothing"])
    (recipe / "train" / "wav.scp").unlink()
    with pytest.raises(FileNotFoundError, match="data directory of stage 4"):
        expand(["--train_dir", f"{recipe}/train"])
