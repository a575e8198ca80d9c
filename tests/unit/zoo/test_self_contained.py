# SPDX-License-Identifier: Apache-2.0
"""Configurations of strangers that would load something: refused in packages, packed by nobody."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.pack import PackRequest, pack
from espnet_objsoup.zoo.pretrained import find_model
from espnet_objsoup.zoo.self_contained import COMPONENTS

from .packages import CONFIG, TAG, make_recipe, write_zip

BASE = f"exp/{TAG}"
LOADS = [
    {"encoder": "beats", "encoder_conf": {"beats_ckpt_path": "/tmp/evil.pth"}},
    {"encoder": "whisper", "encoder_conf": {"whisper_model": "tiny"}},
    {"encoder": "E_BRANCHFORMER"},
    {"encoder": ["e_branchformer"]},
    {"frontend": "huggingface", "frontend_conf": {"model": "evil/model"}},
    {"frontend": "espnet_ssl", "frontend_conf": {"frontend_conf": {"path_or_url": "evil/model"}}},
    {"frontend": "s3prl", "frontend_conf": {"frontend_conf": {"upstream": "hubert"}}},
    {"frontend": "fused", "frontend_conf": {"frontends": [{"frontend_type": "s3prl"}]}},
    {"use_adapter": True, "adapter": "lora"},
    {"preprocessor": "other"},
    {"encoder_conf": {"x": "/etc/passwd"}},
    {"encoder_conf": {"x": "../../../../etc/passwd"}},
    {"encoder_conf": {"x": ".."}},
    {"encoder_conf": {"x": "~root"}},
    {"encoder_conf": {"x": "C:\\x"}},
    {"encoder_conf": {"x": "https:evil.example"}},
    {"encoder_conf": {"x": "evil/model"}},
    {"encoder_conf": {"whisper_model": "tiny"}},
    {"encoder_conf": {"ckpt": "tiny"}},
    {"encoder_conf": {"x": [{"download_dir": "hub"}]}},
    {"encoder_conf": {"x": float("nan")}},
    {"encoder_conf": {"x": 10**12}},
    {"encoder_conf": {"x": b"bytes"}},
    {"ctc_conf": {"x": "/etc/passwd"}},
    {"adapter_conf": {"x": "/etc/passwd"}},
    {"ssl_conf": {"x": "/etc/passwd"}},
    {"init": "/etc/passwd"},
    {"cleaner": "/etc/passwd"},
    {"frontend_conf": {"n_fft": 900_000, "n_mels": 900_000}},
]


def found(good: dict[str, bytes], tmp_path: Path, change: dict[str, Any]) -> dict[str, Any]:
    """The configuration that a model would be built from, of an archive with changes to its own."""
    conf = yaml.safe_load(good[f"{BASE}/config.yaml"]) | change
    entries = {**good, f"{BASE}/config.yaml": yaml.safe_dump(conf).encode()}
    model = find_model(write_zip(tmp_path / "m.zip", *entries.items()), tmp_path / "cache")
    return yaml.safe_load(model.train_config.read_text())


@pytest.mark.parametrize("change", LOADS, ids=str)
def test_what_would_load_something(
    good: dict[str, bytes], tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match=r"config.yaml: \w+.*expected ") as caught:
        found(good, tmp_path, change)
    (remedy,) = re.findall("A model of your own|made to do harm", str(caught.value))
    is_number = change in LOADS[20:23] or "n_fft" in str(change)
    assert (remedy == "made to do harm") == is_number


@pytest.mark.parametrize("change", [LOADS[0], LOADS[4], LOADS[8], LOADS[10], LOADS[17]], ids=str)
def test_it_is_not_packed_and_what_to_do_is_said(tmp_path: Path, change: dict[str, Any]) -> None:
    experiment = make_recipe(tmp_path / "r", **change)
    with pytest.raises(
        ModelError, match=re.escape("Use the experiment itself (--model exp/<tag>)")
    ):
        pack(PackRequest(experiment, tmp_path / "m.zip"))
    assert not (tmp_path / "m.zip").exists()


def test_an_experiment_of_ones_own_may_have_anything(tmp_path: Path) -> None:
    for i, change in enumerate(LOADS[4:8]):
        model = find_model(make_recipe(tmp_path / str(i), **change), tmp_path / "cache")
        conf = yaml.safe_load(model.train_config.read_text())
        assert {key: conf[key] for key in change} == change


def test_nothing_of_training_is_left(good: dict[str, bytes], tmp_path: Path) -> None:
    """Also of what ESPnet's own tool has packed, with all that training had."""
    conf = found(
        good,
        tmp_path,
        {
            "init_param": ["/etc/passwd"],
            "train_data_path_and_name_and_type": [["/data/wav.scp", "speech", "sound"]],
            "output_dir": "/exp/x",
            "preprocessor_conf": {"noise_scp": "/data/noise.scp"},
            "frontend_conf": {"fs": "16k", "window": "hann", "win_length": None},
            "model_conf": {"objective_weights": {"asr/*": 0.3}, "shared_decoder": False},
            "ctc_conf": {"ignore_nan_grad": None, "dropout_rate": 0.0},
        },
    )
    assert not any(word in str(conf) for word in ("passwd", "wav.scp", "noise.scp", "/exp/x"))
    assert conf["frontend_conf"] == {"fs": "16k", "window": "hann", "win_length": None}
    assert conf["token_list"] == CONFIG["token_list"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_conf": ["x"]}, "encoder_conf: expected options"),
        ({"objectives": "asr/fr"}, "objectives: expected a list"),
        ({"objectives": [1]}, "objectives"),
        ({"objectives": ["asr/fr", "nonsense"]}, "objectives: objective: expected"),
        ({"token_list": {"a": 1}}, "token_list: expected"),
        ({"token_type": 1}, "token_type: expected str"),
        *(
            ({"trained_length_s": value}, "trained_length_s: expected two lengths in seconds")
            for value in (
                [float("inf"), float("inf")], [float("nan"), -1], ["a", "b"], [3, 2], [0, 1], [2],
                [1, 1e300], [True, True], 5, "x",
            )
        ),
    ],
    ids=str,
)  # fmt: skip
def test_values_that_make_no_sense(
    good: dict[str, bytes], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        found(good, tmp_path, change)


def test_components_are_those_that_there_are() -> None:
    from espnet_objsoup.tasks import components
    from espnet_objsoup.tasks.objsoup import preprocessor_choices

    for key, allowed in COMPONENTS.items():
        choices = getattr(components, f"{key}_choices", preprocessor_choices)
        assert allowed <= set(choices.classes), key
