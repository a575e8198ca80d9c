# SPDX-License-Identifier: Apache-2.0
"""What goes into an archive, from where, and that it is the same bytes whenever it is made."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.meta import Meta
from espnet_objsoup.zoo.pack import PackRequest, pack
from espnet_objsoup.zoo.writer import write_archive

from ..full_disk import files_up_to
from .packages import CONFIG, OPTIONS, TAG, make_recipe, save_weights, write

BASE = f"exp/{TAG}"


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    return make_recipe(tmp_path / "recipe")


def packed(experiment: Path, target: Path, **more: Any) -> dict[str, bytes]:
    """Entries of a new archive."""
    pack(PackRequest(experiment, target, **more))
    with zipfile.ZipFile(target) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_what_is_packed(experiment: Path, tmp_path: Path) -> None:
    entries = packed(experiment, tmp_path / "m.zip")
    assert list(entries) == [
        "meta.yaml",
        "README.md",
        "data/token_list/bpe_unigram4/bpe.model",
        f"{BASE}/RESULTS.md",
        f"{BASE}/config.yaml",
        f"{BASE}/decode.yaml",
        f"{BASE}/feats_stats.npz",
        f"{BASE}/images/train/loss.png",
        f"{BASE}/scores.json",
        f"{BASE}/valid.loss.ave_2best.pth",
    ]
    assert entries["data/token_list/bpe_unigram4/bpe.model"] == b"pieces"
    assert entries[f"{BASE}/feats_stats.npz"] == b"statistics"
    weights = (experiment / "valid.loss.ave_2best.pth").read_bytes()
    assert entries[f"{BASE}/valid.loss.ave_2best.pth"] == weights
    assert yaml.safe_load(entries[f"{BASE}/decode.yaml"]) == OPTIONS
    meta = Meta.parse(entries["meta.yaml"], "meta.yaml")
    assert meta.files == {"objsoup_model_file": f"{BASE}/valid.loss.ave_2best.pth"}
    assert meta.yaml_files == {
        "objsoup_train_config": f"{BASE}/config.yaml",
        "objsoup_inference_config": f"{BASE}/decode.yaml",
    }


def test_the_configuration_has_the_model_and_nothing_of_its_training(
    experiment: Path, tmp_path: Path
) -> None:
    conf = yaml.safe_load(packed(experiment, tmp_path / "m.zip")[f"{BASE}/config.yaml"])
    assert conf["bpemodel"] == "data/token_list/bpe_unigram4/bpe.model"
    assert conf["normalize_conf"] == {"stats_file": f"{BASE}/feats_stats.npz"}
    for key in ("token_list", "objectives", "encoder_conf", "model_conf", "version"):
        assert conf[key] == CONFIG[key]
    for key in ("wandb_entity", "optim_conf", "output_dir", "train_shape_file", "trainer_conf"):
        assert key not in conf


def test_the_bytes_depend_on_neither_time_nor_place(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = PackRequest(experiment, tmp_path / "one.zip", license="cc-by-4.0")
    first = pack(request).read_bytes()
    monkeypatch.chdir(experiment.parent.parent)
    os.umask(os.umask(0o077))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    (experiment / "config.yaml").touch()
    relative = PackRequest(Path(f"exp/../exp/{TAG}"), tmp_path / "x/one.zip", license="cc-by-4.0")
    assert pack(relative).read_bytes() == first


def test_another_process_and_a_copy_make_the_same_bytes(experiment: Path, tmp_path: Path) -> None:
    """`cp -a` keeps the weights' time; what is absolute in config.yaml may lie elsewhere."""
    first = pack(PackRequest(experiment, tmp_path / "one.zip")).read_bytes()
    recipe = experiment.parents[1]
    copy = tmp_path / "elsewhere"
    subprocess.run(["cp", "-a", str(recipe), str(copy)], check=True)
    conf = CONFIG | {"bpemodel": str(recipe / CONFIG["bpemodel"])}
    conf["normalize_conf"] = {"stats_file": "/gone/exp/stats/train/feats_stats.npz"}
    write(copy / BASE / "config.yaml", yaml.safe_dump(conf))
    command = [sys.executable, "-m", "espnet_objsoup.bin.pack", "--exp_dir", str(copy / BASE)]
    environment = os.environ | {"PYTHONHASHSEED": "5", "HOME": str(tmp_path)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    subprocess.run(
        [*command, "--out", str(tmp_path / "a/one.zip")], check=True, cwd="/", env=environment
    )
    assert (tmp_path / "a/one.zip").read_bytes() == first


def test_time_and_permissions(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(experiment / "valid.loss.ave_2best.pth", (1.5e9, 1.5e9))
    os.chmod(experiment / "scores.json", 0o600)
    for value, expected in ((None, (2017, 7, 14, 2, 40, 0)), ("86400", (1980, 1, 1, 0, 0, 0))):
        if value:
            monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
        entries = packed(experiment, tmp_path / "m.zip")
        assert yaml.safe_load(entries["meta.yaml"])["timestamp"] == int(value or 1.5e9)
        with zipfile.ZipFile(tmp_path / "m.zip") as archive:
            for info in archive.infolist():
                assert info.date_time == expected
                assert info.external_attr >> 16 == 0o100644
                assert info.compress_type == zipfile.ZIP_STORED
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ModelError, match="SOURCE_DATE_EPOCH: expected seconds since 1970"):
        pack(PackRequest(experiment, tmp_path / "m.zip"))


def test_entries_do_not_tell_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    write_archive(tmp_path / "m.zip", {"a": b"x"}, 0)
    monkeypatch.undo()
    with zipfile.ZipFile(tmp_path / "m.zip") as archive:
        assert archive.getinfo("a").create_system == 3


def test_only_what_is_there_is_packed(tmp_path: Path) -> None:
    experiment = make_recipe(
        tmp_path / "r", token_type="char", bpemodel=None, normalize="utterance_mvn",
        normalize_conf={},
    )  # fmt: skip
    for name in ("images", "decode_decode_valid.loss.ave"):
        shutil.rmtree(experiment / name)
    for name in ("RESULTS.md", "scores.json", "soup.jsonl"):
        (experiment / name).unlink()
    entries = packed(experiment, tmp_path / "m.zip")
    assert list(entries) == [
        "meta.yaml", "README.md", f"{BASE}/config.yaml", f"{BASE}/valid.loss.ave_2best.pth",
    ]  # fmt: skip
    assert "The model was not scored." in entries["README.md"].decode()


def test_a_token_list_that_is_a_file(tmp_path: Path) -> None:
    experiment = make_recipe(tmp_path / "r", token_list="data/tokens.txt")
    write(tmp_path / "r/data/tokens.txt", "<blank>\n \u2028\nb\n<sos/eos>\n")
    conf = yaml.safe_load(packed(experiment, tmp_path / "m.zip")[f"{BASE}/config.yaml"])
    assert conf["token_list"] == ["<blank>", " \u2028", "b", "<sos/eos>"]


def test_options_of_the_yaml_where_nothing_was_decoded(experiment: Path, tmp_path: Path) -> None:
    shutil.rmtree(experiment / "decode_decode_valid.loss.ave")
    config = write(tmp_path / "decode.yaml", "beam_size: 9\n")
    entries = packed(experiment, tmp_path / "m.zip", inference_config=config)
    assert yaml.safe_load(entries[f"{BASE}/decode.yaml"]) == {"beam_size": 9}
    write(config, "beamsize: 9\n")
    with pytest.raises(ModelError, match=r"decode.yaml: .*unknown key beamsize"):
        pack(PackRequest(experiment, tmp_path / "m.zip", inference_config=config))


# What must not be published


def test_results_do_not_say_where_they_were_made(experiment: Path, tmp_path: Path) -> None:
    results = packed(experiment, tmp_path / "m.zip")[f"{BASE}/RESULTS.md"].decode()
    assert "`./run.sh --python .../python --librispeech .../speech --tag x`" in results


def test_a_directory_of_this_machine(experiment: Path, tmp_path: Path) -> None:
    write(experiment / "scores.json", json.dumps({"test": {"asr/en": {"x": str(experiment)}}}))
    with pytest.raises(ModelError, match=r"scores.json: expected no path of this machine, found"):
        pack(PackRequest(experiment, tmp_path / "m.zip"))
    assert not (tmp_path / "m.zip").exists()


def test_a_token(experiment: Path, tmp_path: Path) -> None:
    secret = "hf_" + "aB3" * 12
    write(experiment / "RESULTS.md", (experiment / "RESULTS.md").read_text() + secret)
    with pytest.raises(ModelError, match=r"RESULTS.md: expected nothing secret") as caught:
        pack(PackRequest(experiment, tmp_path / "m.zip"))
    assert secret not in str(caught.value)


# Mistakes


def test_scores_of_other_weights(experiment: Path, tmp_path: Path) -> None:
    save_weights(experiment / "valid.loss.best.pth")
    named = experiment / "valid.loss.best.pth"
    with pytest.raises(ModelError, match=r"found those of valid.loss.ave.pth; decode and score"):
        pack(PackRequest(experiment, tmp_path / "m.zip", model_file=named))


def test_sets_that_were_decoded_differently(experiment: Path, tmp_path: Path) -> None:
    report = json.dumps(OPTIONS | {"beam_size": 1})
    write(experiment / "decode_decode_valid.loss.ave" / "zdev" / "decode.json", report)
    with pytest.raises(ModelError, match=r"found beam_size 3 and 1 in .*zdev"):
        pack(PackRequest(experiment, tmp_path / "m.zip"))


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.yaml", "expected config.yaml of a trained experiment, found none"),
        ("valid.loss.ave.pth", "expected averaged weights such as valid.loss.ave.pth"),
        ("../../data/token_list/bpe_unigram4/bpe.model", "bpemodel: expected a file, found none"),
        ("../stats/train/feats_stats.npz", "stats_file: expected a file, found none"),
    ],
)
def test_files_that_are_missing(
    experiment: Path, tmp_path: Path, missing: str, message: str
) -> None:
    (experiment / missing).unlink()
    (experiment / "valid.loss.ave_2best.pth").rename(experiment / "2best.pth")
    model_file = None if missing == "valid.loss.ave.pth" else experiment / "2best.pth"
    with pytest.raises(ModelError, match=message):
        pack(PackRequest(experiment, tmp_path / "m.zip", model_file=model_file))
    assert not (tmp_path / "m.zip").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_conf": {"path": "/gone/model.bin"}}, "no file and no address"),
        ({"encoder_conf": {"path": "conf/model.bin"}}, "no file and no address"),
        ({"frontend_conf": {"url": "https://there/x"}}, "no file and no address"),
        ({"trainer_conf": {"recipe": "nonsense"}}, "recipe"),
    ],
)
def test_configurations_that_cannot_be_packed(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    experiment = make_recipe(tmp_path / "r", **change)
    write(tmp_path / "r/conf/model.bin", "x")
    with pytest.raises(ModelError, match=message):
        pack(PackRequest(experiment, tmp_path / "m.zip"))


def test_what_readers_will_miss_is_said(
    experiment: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy of exp/<tag> alone, without the statistics of stage 10, and packed by hand."""
    pack(PackRequest(experiment, tmp_path / "m.zip"))
    assert "how long the training utterances were is not known" in caplog.text
    assert "exp/stats/train/speech_shape (stage 10)" in caplog.text
    assert "neither --corpus nor --recipe is given" in caplog.text
    caplog.clear()
    write(tmp_path / "recipe/exp/stats/train/speech_shape", "a 16000\nb 32000\n")
    entries = packed(experiment, tmp_path / "m.zip", corpus="Mini")
    assert yaml.safe_load(entries[f"{BASE}/config.yaml"])["trained_length_s"] == [1.95, 2.0]
    assert caplog.text == ""


def test_an_earlier_archive_survives_an_error(experiment: Path, tmp_path: Path) -> None:
    before = pack(PackRequest(experiment, tmp_path / "m.zip")).read_bytes()
    write(experiment / "valid.loss.ave_2best.pth", b"damaged")
    with pytest.raises(ModelError):
        pack(PackRequest(experiment, tmp_path / "m.zip"))
    assert (tmp_path / "m.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_full_disk_leaves_the_earlier_archive(experiment: Path, tmp_path: Path) -> None:
    before = pack(PackRequest(experiment, tmp_path / "m.zip")).read_bytes()
    with (
        files_up_to(len(before) // 2),
        pytest.raises(OSError, match=r"not written, run again.*zip"),
    ):
        pack(PackRequest(experiment, tmp_path / "m.zip"))
    assert (tmp_path / "m.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert pack(PackRequest(experiment, tmp_path / "m.zip")).read_bytes() == before


# Weights


def test_weights_that_only_a_pickle_reads(experiment: Path, tmp_path: Path) -> None:
    weights = experiment / "valid.loss.ave_2best.pth"
    save_weights(weights, {"w": torch.ones(2), "n": np.arange(3), "s": np.float32(2)})
    with pytest.raises(ModelError, match="--trust_weights true"):
        pack(PackRequest(experiment, tmp_path / "m.zip"))
    entries = packed(experiment, tmp_path / "m.zip", trust_weights=True)
    write(tmp_path / "w.pth", entries[f"{BASE}/valid.loss.ave_2best.pth"])
    state = torch.load(tmp_path / "w.pth", weights_only=True)
    assert {name: value.tolist() for name, value in state.items()} == {
        "w": [1, 1], "n": [0, 1, 2], "s": 2,
    }  # fmt: skip
    again = packed(experiment, tmp_path / "n.zip", trust_weights=True)
    assert again[f"{BASE}/valid.loss.ave_2best.pth"] == (tmp_path / "w.pth").read_bytes()


def test_weights_in_torchs_old_format_are_saved_again(experiment: Path, tmp_path: Path) -> None:
    weights = experiment / "valid.loss.ave_2best.pth"
    torch.save({"w": torch.ones(2)}, weights, _use_new_zipfile_serialization=False)
    entries = packed(experiment, tmp_path / "m.zip")
    write(tmp_path / "w.pth", entries[f"{BASE}/valid.loss.ave_2best.pth"])
    assert torch.load(tmp_path / "w.pth", weights_only=True)["w"].tolist() == [1, 1]


@pytest.mark.parametrize("state", [{"model": {}, "optimizers": [{}]}, {}, {"w": 3}, [1]])
def test_what_is_no_weights(experiment: Path, tmp_path: Path, state: Any) -> None:
    save_weights(experiment / "valid.loss.ave_2best.pth", state)
    with pytest.raises(ModelError, match="expected the weights of a model, found"):
        pack(PackRequest(experiment, tmp_path / "m.zip"))
