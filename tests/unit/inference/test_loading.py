# SPDX-License-Identifier: Apache-2.0
"""Models that are somebody else's, damaged or hostile: errors in words, nothing run, no memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from espnet_objsoup.inference import InferenceError
from espnet_objsoup.inference.loading import load_model
from espnet_objsoup.tasks.objsoup import ObjSoupTask

from ..experiment import make_experiment, parse
from ..hostile_pickle import MakesDirectory


def changed(experiment: Path, directory: Path, **changes: Any) -> Path:
    """A copy of a configuration with changes; those of a mapping are merged."""
    conf = yaml.safe_load((experiment / "config.yaml").read_text())
    for key, value in changes.items():
        old = conf.get(key)
        merge = isinstance(value, dict) and isinstance(old, dict)
        conf[key] = old | value if merge else value
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(conf))
    return path


def message(config: Path, weights: Path) -> str:
    with pytest.raises(InferenceError) as caught:
        load_model(config, weights, "cpu", "float32")
    assert str(config.parent) in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def test_no_variable_has_a_pickle_run(
    small_experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ESPnet's and torch's switches are for files that their owner trusts."""
    for variable in ("ESPNET_ALLOW_UNSAFE_TORCH_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        monkeypatch.setenv(variable, "1")
    for new_format in (True, False):
        path = tmp_path / "w.pth"
        evil = {"w": MakesDirectory(tmp_path / "ran")}
        torch.save(evil, path, _use_new_zipfile_serialization=new_format)
        with pytest.raises(InferenceError, match="damaged or foreign file"):
            load_model(small_experiment / "config.yaml", path, "cpu", "float32")
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder_conf": ["x"]}, "a model that can be built here"),
        ({"encoder_conf": {"no_such_option": 1}}, "no_such_option"),
        ({"encoder_conf": {"output_size": "large"}}, "a model that can be built here"),
        ({"encoder": "nonsense"}, "encoder must be one of"),
        ({"encoder": "whisper", "encoder_conf": {}}, "a model that can be built here"),
        ({"encoder": 3}, "a model that can be built here"),
        ({"model_conf": {"asr_ctc_weight": "x"}}, "a model that can be built here"),
        ({"token_list": [1, 2]}, "a model that can be built here"),
        ({"token_type": "nonsense"}, "expected a tokenizer"),
        ({"frontend_conf": {"fs": "fast"}}, "frontend_conf.fs: expected a sample rate"),
        ({"frontend_conf": {"fs": -16000}}, "frontend_conf.fs: expected a sample rate"),
        ({"frontend_conf": [1]}, "frontend_conf.fs: expected a sample rate"),
        ({"normalize_conf": ["x"]}, "a model that can be built here"),
        ({"encoder_conf": {"num_blocks": 2}}, "missing"),
    ],
)
def test_configurations_that_make_no_model(
    small_experiment: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    config = changed(small_experiment, tmp_path, **changes)
    assert words in message(config, small_experiment / "model.pth")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder_conf": {"cgmlp_linear_units": 2_000_000_000}}, "of another shape"),
        ({"asr_decoder_conf": {"linear_units": 10**12}}, "of another shape"),
        ({"encoder_conf": {"num_blocks": 10**9}}, "far more than the weights have"),
        ({"st_decoder_conf": {"num_blocks": 10**9}}, "far more than the weights have"),
    ],
)
def test_sizes_are_those_of_the_weights_before_memory_is_taken(
    small_experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any], words: str,
) -> None:  # fmt: skip
    build = ObjSoupTask.build_model_from_file
    devices = []

    def recorded(config: Path, weights: None, device: str) -> Any:
        devices.append(device)
        return build(config, weights, device)

    monkeypatch.setattr(ObjSoupTask, "build_model_from_file", recorded)
    config = changed(small_experiment, tmp_path, **changes)
    assert words in message(config, small_experiment / "model.pth")
    assert devices == ["meta"]


@pytest.mark.parametrize("ssl", ["cpc", "best_rq"])
def test_self_supervision_does_not_prevent_that(tmp_path: Path, ssl: str) -> None:
    objectives = ["asr/en", "asr/fr", "ssl"]
    experiment = make_experiment(tmp_path / "exp", objectives=objectives, ssl=ssl)
    load_model(experiment / "config.yaml", experiment / "model.pth", "cpu", "float32")
    config = changed(experiment, tmp_path, encoder_conf={"cgmlp_linear_units": 2_000_000_000})
    assert "of another shape" in message(config, experiment / "model.pth")


@pytest.mark.parametrize(
    "changes",
    [
        *({"encoder": name, "encoder_conf": {}} for name in (
            "conformer", "transformer", "contextual_block_transformer", "vgg_rnn", "rnn",
            "contextual_block_conformer", "branchformer", "multiconv_conformer",
        )),
        *({"st_decoder": name, "st_decoder_conf": {}} for name in (
            "lightweight_conv", "dynamic_conv", "rnn",
        )),
        {"frontend": "sliding_window", "frontend_conf": {}, "preencoder": "sinc"},
        {"preencoder": "linear", "preencoder_conf": {"input_size": 20, "output_size": 20}},
        {"normalize": "utterance_mvn"},
    ],
    ids=lambda changes: next(iter(changes.values())),
)  # fmt: skip
def test_components_have_their_shapes_without_memory(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    from ..experiment import CONFIG

    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump(vars(parse(tmp_path / "exp", CONFIG | changes)))
    )
    shapes = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            model, _ = ObjSoupTask.build_model_from_file(tmp_path / "config.yaml", None, device)
        shapes.append({name: tensor.shape for name, tensor in model.state_dict().items()})
    assert shapes[0] == shapes[1]
