# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
import torch
from espnet2.train.trainer import Trainer

from espnet_objsoup.tasks.objsoup import ObjSoupTask
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from espnet_objsoup.train.options import TrainerConfError

from ..experiment import CONFIG, OBJECTIVES, TOKENS, parse


def test_model_of_a_yaml(tmp_path: Path) -> None:
    args = parse(tmp_path, CONFIG)
    model = ObjSoupTask.build_model(args)
    assert model.objectives == tuple(OBJECTIVES)
    assert model.languages == ["en", "fr"]
    assert args.token_list == TOKENS  # portable: config.yaml holds the list itself
    assert model.asr_head.decoder is not model.st_head.decoder
    assert model.asr_head.ctc_weight == 0.3


def test_shared_decoder(tmp_path: Path) -> None:
    conf = {**CONFIG, "asr_decoder": None, "model_conf": {"shared_decoder": True}}
    model = ObjSoupTask.build_model(parse(tmp_path, conf))
    assert model.asr_head.decoder is model.st_head.decoder
    conf["asr_decoder"] = "transformer"
    with pytest.raises(ValueError, match="remove asr_decoder"):
        ObjSoupTask.build_model(parse(tmp_path, conf))


def test_recognition_alone_has_one_head(tmp_path: Path) -> None:
    model = ObjSoupTask.build_model(parse(tmp_path, {**CONFIG, "objectives": ["asr/fr"]}))
    assert model.st_head is None
    assert list(model.heads) == ["asr"]


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"model_conf": {"ctc": 1}}, "model_conf: unknown key ctc; known keys: asr_ctc_weight"),
        ({"objectives": ["asr/zh"]}, "symbol for every language.*<zh>"),
        ({"asr_decoder": None}, "CTC only"),
        (
            {"encoder_conf": {**CONFIG["encoder_conf"], "interctc_layer_idx": [1]}},
            "intermediate CTC",
        ),
        ({"model_conf": {"objective_weights": {"mt/*": 1.0}}}, "matches no objective"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_contradictions_are_refused(tmp_path: Path, conf: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjSoupTask.build_model(parse(tmp_path, {**CONFIG, **conf}))


def test_trainer_options_are_checked_before_the_model_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the model was built")

    monkeypatch.setattr(ObjSoupTask, "build_model", never)
    conf = {**CONFIG, "trainer": "objsoup", "trainer_conf": {"gama": 1}}
    with pytest.raises(TrainerConfError, match="gama"):
        ObjSoupTask.main_worker(parse(tmp_path, conf))
    assert ObjSoupTask.trainer is Trainer


def test_trainer_is_chosen_by_yaml_for_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        "espnet2.tasks.abs_task.AbsTask.main_worker",
        classmethod(lambda cls, args: seen.append(cls.trainer)),
    )
    ObjSoupTask.main_worker(parse(tmp_path, {**CONFIG, "trainer": "ObjSoup"}))
    ObjSoupTask.main_worker(parse(tmp_path, CONFIG))
    assert seen == [ObjSoupTrainer, Trainer]
    assert ObjSoupTask.trainer is Trainer


def test_print_config_documents_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    # ESPnet reads the choices from the command line of the process.
    monkeypatch.setattr("sys.argv", ["train", "--print_config", "--trainer", "objsoup"])
    config = ObjSoupTask.get_default_config()
    assert config["trainer"] == "objsoup"
    assert config["trainer_conf"]["recipe"] == "static"
    assert config["model_conf"]["asr_ctc_weight"] == 0.3


def test_preprocessor_turns_names_and_missing_labels_into_numbers(tmp_path: Path) -> None:
    preprocess = ObjSoupTask.build_preprocess_fn(parse(tmp_path, CONFIG), train=True)
    data = preprocess("u", {"text": "ab c", "st_text": "<na>", "lang": "fr", "tgt_lang": "<na>"})
    assert [TOKENS[i] for i in data["text"]] == ["a", "b", "<space>", "c"]
    assert data["st_text"].shape == (0,)
    assert data["lang"].tolist() == [1]
    assert data["tgt_lang"].tolist() == [-1]
    assert preprocess("u", {"lang": "zh"})["lang"].tolist() == [-1]


def test_collated_batch_goes_through_the_model(tmp_path: Path) -> None:
    args = parse(tmp_path, CONFIG)
    model = ObjSoupTask.build_model(args)
    preprocess = ObjSoupTask.build_preprocess_fn(args, train=True)
    speech = torch.randn(8000).numpy()
    rows = [
        ("a", {"speech": speech, "text": "ab", "st_text": "cd", "lang": "fr", "tgt_lang": "en"}),
        ("b", {"speech": speech[:6000], "text": "abc", "st_text": "<na>", "lang": "en",
               "tgt_lang": "<na>"}),
    ]  # fmt: skip
    collate = ObjSoupTask.build_collate_fn(args, train=True)
    keys, batch = collate([(key, preprocess(key, row)) for key, row in rows])
    assert "lang_lengths" not in batch
    output = model(**batch, utt_id=keys)
    assert {name: int(n) for name, n in output["counts"].items()} == dict.fromkeys(OBJECTIVES, 1)
