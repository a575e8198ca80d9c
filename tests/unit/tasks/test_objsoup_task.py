# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path

import pytest
import torch
from espnet2.train.trainer import Trainer
from espnet2.utils.get_default_kwargs import get_default_kwargs

from espnet_objsoup.tasks.label_lengths import check_label_lengths
from espnet_objsoup.tasks.objsoup import ObjSoupTask, ssl_choices
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
        ({"ssl": "cpc"}, "add ssl to the objectives"),
        ({"objectives": ["asr/fr", "ssl"]}, "the option ssl is none"),
        (
            {"ssl": "best_rq", "ssl_conf": {"n_steps": 3}, "objectives": ["ssl"]},
            "ssl_conf: unknown key n_steps for ssl: best_rq; known keys: mask_probability",
        ),
        (
            {"ssl": "cpc", "ssl_conf": {"n_steps": 0}, "objectives": ["ssl"]},
            "ssl_conf.n_steps: expected an integer",
        ),
        ({"ssl": "wav2vec", "objectives": ["ssl"]}, "--ssl must be one of"),
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


@pytest.mark.parametrize(("name", "key"), [("cpc", "n_steps"), ("best_rq", "n_codes")])
def test_print_config_documents_self_supervision(
    monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    monkeypatch.setattr("sys.argv", ["train", "--print_config"])
    assert ObjSoupTask.get_default_config()["ssl"] is None
    monkeypatch.setattr("sys.argv", ["train", "--print_config", "--ssl", name])
    assert key in ObjSoupTask.get_default_config()["ssl_conf"]


@pytest.mark.parametrize("name", ["cpc", "best_rq"])
def test_self_supervision_of_a_yaml(tmp_path: Path, name: str) -> None:
    conf = {**CONFIG, "ssl": name, "objectives": [*OBJECTIVES, "ssl"], "ssl_conf": {"seed": 3}}
    model = ObjSoupTask.build_model(parse(tmp_path, conf))
    assert model.objectives == (*OBJECTIVES, "ssl")
    assert model.languages == ["en", "fr"]
    assert type(model.ssl_head) is ssl_choices.get_class(name)
    assert model.ssl_head.seed == 3
    assert model.ssl_head.subsampling.factor == 2
    again = ObjSoupTask.build_model(parse(tmp_path, conf))
    again.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize("arguments", [(), ("--ssl", "none")])
def test_no_self_supervision_unless_asked_for(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    args = parse(tmp_path, CONFIG, *arguments)
    assert ObjSoupTask.build_model(args).ssl_head is None
    del args.ssl, args.ssl_conf  # config.yaml of an earlier version
    assert ObjSoupTask.build_model(args).objectives == tuple(OBJECTIVES)


def test_features_in_place_of_waveforms_and_no_labels(tmp_path: Path) -> None:
    (tmp_path / "utt2lang").write_text("a <na>\nb <na>\n")
    conf = {**CONFIG, "ssl": "cpc", "objectives": None, "input_size": 12}
    data = ("--train_data_path_and_name_and_type", f"{tmp_path}/utt2lang,lang,text")
    args = parse(tmp_path, conf, *data)
    model = ObjSoupTask.build_model(args)
    assert args.objectives == ["ssl"]
    assert model.heads == {}
    preprocess = ObjSoupTask.build_preprocess_fn(args, train=True)
    collate = ObjSoupTask.build_collate_fn(args, train=True)
    rows = [(key, {"speech": torch.randn(n, 12).numpy(), "lang": "<na>"})
            for key, n in (("a", 90), ("b", 50))]  # fmt: skip
    keys, batch = collate([(key, preprocess(key, row)) for key, row in rows])
    output = model(**batch, utt_id=keys)
    assert int(output["counts"]["ssl"]) == 2
    output["loss"].sum().backward()
    assert all(p.grad is not None for p in model.parameters())


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


@pytest.mark.parametrize("name", ["cpc", "best_rq"])
def test_options_of_self_supervision_are_documented(name: str) -> None:
    text = (Path(__file__).parents[3] / "docs" / "self_supervision.md").read_text()
    section = text.split({"cpc": "## CPC", "best_rq": "## BEST-RQ"}[name])[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    documented = {key.strip(" `"): float(value) for key, value in rows}
    assert documented == get_default_kwargs(ssl_choices.get_class(name))


def test_there_is_no_soup_to_print_without_the_trainer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="print_soup: expected trainer: objsoup, found default"):
        ObjSoupTask.main_worker(parse(tmp_path, CONFIG, "--print_soup", "true"))


def test_soup_is_printed_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("espnet2.tasks.abs_task.AbsTask.main_worker", None)  # never called
    conf = {**CONFIG, "trainer": "objsoup", "trainer_conf": {"recipe": "bilevel", "order": "sa"}}
    ObjSoupTask.main_worker(parse(tmp_path, conf, "--print_soup", "true"))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1] == ["1", "st/fr-en", "modo", "-", "1"]
    assert rows[2] == ["2", "asr/en", "modo", "linear", "0.1"]


@pytest.mark.parametrize(
    ("conf", "arguments", "message"),
    [
        ({"recipe": "multilevel"}, [], "multilevel.*ssl"),
        ({"levels": [{"objectives": ["asr/zh"]}]}, [], "'asr/zh' matches no objective"),
        ({"levels": [{"objectives": ["asr/*"]}]}, [], "no level has st/fr-en"),
        ({"recipe": "flat", "weighting": "excess_mtl"}, [], "excess_mtl"),
        ({}, ["--use_deepspeed", "true"], "use_deepspeed: expected false with trainer objsoup"),
    ],
    ids=str,
)
def test_soup_is_checked_against_the_objectives_before_anything_is_built(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    conf: dict,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("espnet2.tasks.abs_task.AbsTask.main_worker", None)  # never called
    conf = {**CONFIG, "trainer": "objsoup", "trainer_conf": conf}
    with pytest.raises(ValueError, match=message):
        ObjSoupTask.main_worker(parse(tmp_path, conf, *arguments))


@pytest.mark.parametrize("many", [False, True])
def test_labels_longer_than_frames(
    tmp_path: Path, many: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a second is 51 feature frames and 24 encoder frames."""
    (tmp_path / "speech_shape").write_text("".join(f"u{i:02d} 8000\n" for i in range(20)))
    long = 10 if many else 1
    (tmp_path / "text_shape").write_text(
        "".join(f"u{i:02d} {25 if i < long else 24}\n" for i in range(20))
    )
    args = parse(tmp_path, CONFIG, "--train_shape_file", f"{tmp_path}/speech_shape")
    model = ObjSoupTask.build_model(args)  # loading a model checks nothing
    expected = (
        f"more in {long} of 20 utterances of task asr, such as u00 \\(25 tokens, 24 frames\\)"
    )
    if many:
        with pytest.raises(ValueError, match=f"text_shape: .*{expected}.*asr_ctc_weight: 0"):
            check_label_lengths(model, args)
    else:
        check_label_lengths(model, args)
        assert re.search(expected, caplog.text)


def test_options_of_self_supervision_need_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ssl_conf: expected it empty with ssl: none"):
        ObjSoupTask.build_model(parse(tmp_path, {**CONFIG, "ssl_conf": {"seed": 1}}))
