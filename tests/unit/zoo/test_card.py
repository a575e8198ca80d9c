# SPDX-License-Identifier: Apache-2.0
"""The model card: what it says, and that it does not say what nobody knows."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from espnet_objsoup.zoo.card import Card, render_card
from espnet_objsoup.zoo.config import read_conf
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.facts import ModelFacts, facts_of_experiment
from espnet_objsoup.zoo.meta import Meta
from espnet_objsoup.zoo.soup_facts import soup_facts

from .packages import OBJECTIVES, OPTIONS, SCORES, TAG, make_recipe, write

META = Meta({}, {}, 1.0, espnet="202611", facts={"version": "0.1.0", "install": "pip install it"})


def make_card(facts: ModelFacts, **changes: Any) -> str:
    card = Card(facts, META, None, "m.zip", SCORES, OPTIONS, f"exp/{TAG}")
    return render_card(replace(card, **changes)).decode()


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> ModelFacts:
    experiment = make_recipe(tmp_path_factory.mktemp("recipe"))
    return facts_of_experiment(
        experiment, read_conf(experiment / "config.yaml"), parameters=1_260_000
    )


def table(card: str, head: str) -> list[list[str]]:
    """Rows below the head of a table."""
    lines = card.split("\n")
    rows = lines[lines.index(head) + 2 :]
    return [row[1:-1].split("|") for row in rows[: rows.index("")]]


def test_facts_of_an_experiment(facts: ModelFacts) -> None:
    assert facts.name == TAG
    assert facts.languages == ["en", "fr"]
    assert facts.pairs == [("fr", "en")]
    assert facts.all_languages == ["en", "fr"]
    assert (facts.sample_rate_hz, facts.vocabulary, facts.token_type) == (16000, 7, "bpe")
    counts = {"asr/en": 1, "asr/fr": 1, "st/fr-en": 1}
    assert facts.training_data == {"utterances": counts, "hours": 0.00125}  # 4.5 s
    assert ModelFacts.from_dict(json.loads(json.dumps(facts.as_dict())), "m") == facts


def test_what_is_not_there_is_not_known(tmp_path: Path) -> None:
    experiment = make_recipe(tmp_path)
    (tmp_path / "dump/raw/train/text").unlink()
    facts = facts_of_experiment(experiment, read_conf(experiment / "config.yaml"))
    assert facts.training_data is None
    assert facts.license is facts.corpus is facts.recipe is facts.parameters is None
    card = make_card(facts, scores={}, options=None)
    assert "Training corpora: not recorded. Amount of training data: not recorded." in card
    assert "None was stated: ask the owner" in card
    assert "The model was not scored." in card
    assert "million numbers" not in card
    head = ModelCard(card).data
    assert head.license is head.datasets is head.eval_results is head.metrics is None


def test_the_head_is_what_the_hub_reads(facts: ModelFacts) -> None:
    named = replace(facts, license="cc-by-4.0", datasets=["them/speech"], corpus="Speech of them")
    data = ModelCard(make_card(named)).data
    assert data.language == ["en", "fr"]
    assert data.license == "cc-by-4.0"
    assert data.datasets == ["them/speech"]
    assert set(data.tags) >= {"espnet", "audio", "automatic-speech-recognition"}
    assert data.pipeline_tag == "automatic-speech-recognition"
    assert data.metrics == ["bleu", "cer", "chrf", "wer"]
    found = {
        (result.task_type, result.dataset_config, result.metric_type): result.metric_value
        for result in data.eval_results
    }
    assert found == {
        ("automatic-speech-recognition", "en", "wer"): 10.0,
        ("automatic-speech-recognition", "en", "cer"): 3.0,
        ("automatic-speech-recognition", "fr", "wer"): 30.0,
        ("automatic-speech-recognition", "fr", "cer"): 5.0,
        ("translation", "fr-en", "bleu"): 41.26,
        ("translation", "fr-en", "chrf"): 60.0,
    }
    for result in data.eval_results:
        assert result.dataset_type == "them/speech"
        assert result.dataset_split == "test"
        assert result.dataset_name.startswith("Speech of them (")


def test_the_heads_yaml_is_the_hubs_form(facts: ModelFacts) -> None:
    import yaml

    values = yaml.safe_load(make_card(facts).split("---")[1])
    name, results = model_index_to_eval_results(values["model-index"])
    assert name == TAG
    assert len(results) == 6


def test_words_of_languages_without_spaces_have_no_error_rate(facts: ModelFacts) -> None:
    chinese = {"wer": 99.0, "cer": 7.0, "measure": "cer", "sentences": 2}
    card = make_card(facts, scores={"test": {"asr/zh": chinese}})
    assert table(card, "|objective|sentences|WER|CER|") == [["asr/zh", "2", "", "7.0"]]
    assert [result.metric_type for result in ModelCard(card).data.eval_results] == ["cer"]


def test_levels_and_final_weights(facts: ModelFacts) -> None:
    card = make_card(facts)
    assert "Recipe of the objectives: bilevel, order as. Seed 7." in card
    assert "(soup.jsonl, step 40, epoch 3)" in card
    rows = table(card, "|level|coefficient|objective|weight|weighting|penalty|")
    assert rows == [
        ["1", "1", "asr/en", "0.25", "modo", ""],
        ["1", "1", "asr/fr", "0.75", "modo", ""],
        ["2", "0.14", "st/fr-en", "1", "modo", "linear"],
    ]


def test_scores_and_languages(facts: ModelFacts) -> None:
    card = make_card(facts)
    assert table(card, "|objective|sentences|WER|CER|") == [
        ["asr/en", "2", "10.0", "3.0"],
        ["asr/fr", "2", "30.0", "5.0"],
        ["asr/mean", "", "20.0", "4.0"],
        ["asr_ctc/en", "2", "11.0", "3.5"],
    ]
    assert ["st/fr-en", "2", "41.3", "60.0"] in table(card, "|objective|sentences|BLEU|chrF2|")
    head = "|spoken language|recognition|translation into|"
    assert table(card, head) == [["en", "yes", ""], ["fr", "yes", "en"]]
    assert f"[RESULTS.md](exp/{TAG}/RESULTS.md)" in card


def test_the_commands_are_those_of_this_package(facts: ModelFacts) -> None:
    from espnet_objsoup.bin import info, objsoup, transcribe, translate

    parsers = {"info": info, "transcribe": transcribe, "translate": translate}
    card = make_card(facts, hf_repo="me/mine")
    assert "```sh\npip install it\n```" in card
    assert 'Speech2Text.from_pretrained("me/mine")' in card
    commands = re.findall(r"^objsoup .*", card, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        _, name, *arguments = shlex.split(command)
        assert name in objsoup.commands()
        parsers[name].get_parser().parse_args(arguments)


def test_one_task_only(facts: ModelFacts) -> None:
    recognition = make_card(replace(facts, objectives=["asr/en", "ssl"]))
    assert "st" not in re.findall(r'task="(\w+)"', recognition)
    assert "speech-translation" not in recognition
    translation = make_card(replace(facts, objectives=["st/fr-en"]), scores={})
    assert re.findall(r'task="(\w+)"', translation) == ["st"]
    assert ModelCard(translation).data.pipeline_tag is None
    neither = make_card(replace(facts, objectives=["ssl"]), scores={})
    assert "was trained by self-supervision" in neither


def test_synthetic_speech_is_said(facts: ModelFacts) -> None:
    assert "of no use for real speech" in make_card(replace(facts, recipe="mini_objsoup"))
    assert "of no use" not in make_card(replace(facts, recipe="covost2_objsoup"))
    assert "The data of recipe `x_objsoup`." in make_card(replace(facts, recipe="x_objsoup"))


# Soups


def soup(tmp_path: Path, **conf: Any) -> dict[str, Any]:
    return soup_facts({"trainer": "objsoup", **conf}, OBJECTIVES, tmp_path)


def test_fixed_weights_and_scheduled_penalties_need_no_log(tmp_path: Path) -> None:
    levels = [
        {"objectives": ["asr/*"], "weighting": "static",
         "weighting_conf": {"weights": {"asr/en": 3, "asr/fr": 1}}},
        {"objectives": ["st/*"], "penalty": "linear", "penalty_conf": {"init": 0.1, "step": 0.2}},
    ]  # fmt: skip
    write(tmp_path / "2epoch.pth", b"")
    write(tmp_path / "3epoch.pth", b"")
    found = soup(tmp_path, trainer_conf={"levels": levels}, max_epoch=50)
    assert found["levels"][0]["weights"] == {"asr/en": 0.75, "asr/fr": 0.25}
    # The third epoch: 0.1 + 2 * 0.2.
    assert found["levels"][1]["coefficient"] == pytest.approx(0.5)
    assert found["levels"][1]["weights"] == {"st/fr-en": 1.0}
    assert found["source"] == "config.yaml, epoch 3"
    assert found["recipe"] is None


def test_weights_that_were_measured_are_unknown_without_the_log(tmp_path: Path) -> None:
    found = soup(tmp_path, trainer_conf={"recipe": "flat"})
    assert set(found["levels"][0]["weights"].values()) == {None}
    found = soup(tmp_path, trainer_conf={"recipe": "static"})
    assert set(found["levels"][0]["weights"].values()) == {1.0}


def test_espnets_own_trainer(tmp_path: Path, facts: ModelFacts) -> None:
    conf = {"model_conf": {"objective_weights": {"asr/en": 2.0}}}
    plain = replace(facts, soup=soup_facts(conf, OBJECTIVES, tmp_path))
    card = make_card(plain)
    assert "no soup: ESPnet's trainer on a weighted sum of the losses (asr/en 2)" in card
    assert "|level|" not in card


@pytest.mark.parametrize(
    "values",
    [
        {"name": "m", "objectives": ["asr/en; rm"]},
        {"name": "m", "objectives": "asr/en"},
        {"name": "m", "objectives": [3]},
        {"name": "m", "objectives": [], "soup": "x"},
        {"name": "m", "objectives": [], "license": {"a": 1}},
        {"name": ["m"], "objectives": []},
        {"objectives": []},
    ],
)
def test_facts_that_make_no_sense(values: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"meta.yaml: objsoup: .*pack the model again"):
        ModelFacts.from_dict(values, "m.zip")
