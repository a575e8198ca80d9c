# SPDX-License-Identifier: Apache-2.0
"""Training under ESPnet's own tasks, from a command line to the files it leaves."""

import json
import re
import subprocess
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from espnet2.train.trainer import Trainer

from espnet_objsoup.gradients.engines import ENGINES
from espnet_objsoup.objectives import SoupConf
from espnet_objsoup.objectives.spec import STOCK_OBJECTIVES
from espnet_objsoup.tasks.stock import SoupASRTask, SoupSTTask

from .stock import OURS, THEIRS, command, make_data, train

OBJECTIVES = {
    "asr": ["asr/ctc", "asr/att"],
    "st": ["asr/ctc", "asr/att", "st/ctc", "st/att"],
    "s2t": ["s2t/ctc", "s2t/att"],
}
PAGE = Path(__file__).resolve().parents[3] / "docs/stock_tasks.md"
FLAT = {"trainer": "objsoup", "trainer_conf": {"recipe": "flat", "weights_interval": 1}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def stock(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Parameters that ESPnet's own commands arrive at."""
    directory = tmp_path_factory.mktemp("stock")
    return {task: train(THEIRS[task], task, data, directory / task) for task in OURS}


def same(ours: dict, theirs: dict, **tolerance: float) -> None:
    assert list(ours) == list(theirs)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], **tolerance)


def check_espnet_decodes(task: str, exp: Path, parameters: dict) -> None:
    """ESPnet's own inference loads config.yaml and weights, and finds hypotheses."""
    recogniser = import_module(f"espnet2.bin.{task}_inference").Speech2Text(
        *(f"{exp}/config.yaml", f"{exp}/latest.pth"), beam_size=2, maxlenratio=0.1, dtype="float64"
    )
    model = getattr(recogniser, f"{task}_model")
    assert type(model).__module__ == f"espnet2.{task}.espnet_model"
    # It is built in single precision.
    rounded = {name: value.float().double() for name, value in parameters.items()}
    same(model.state_dict(), rounded, rtol=0, atol=0)
    if task != "s2t":  # wants thirty seconds of speech and a token list of that kind
        text, tokens, ids, _ = recogniser(np.random.default_rng(1).standard_normal(8000))[0]
        assert len(tokens) == len(ids)
        assert isinstance(text, str)


@pytest.mark.parametrize("task", OURS)
def test_default_trainer_is_espnet_bit_for_bit(task, data, stock, tmp_path) -> None:
    same(train(OURS[task], task, data, tmp_path), stock[task], rtol=0, atol=0)


@pytest.mark.parametrize("task", OURS)
def test_soup_without_options_takes_espnets_steps(task, data, stock, tmp_path) -> None:
    ours = train(OURS[task], task, data, tmp_path, trainer="objsoup")
    same(ours, stock[task], rtol=1e-9, atol=1e-12)
    assert OURS[task].trainer is Trainer


@pytest.mark.parametrize("task", OURS)
def test_flat_soup(task, data, stock, tmp_path) -> None:
    ours = train(OURS[task], task, data, tmp_path, **FLAT)
    assert list(ours) == list(stock[task])  # what ESPnet's inference loads
    rows = [json.loads(r) for r in (tmp_path / "exp/soup.jsonl").read_text().splitlines()]
    refreshes = [row for row in rows if row["kind"] == "refresh"]
    assert [row["step"] for row in refreshes] == list(range(1, 9))
    names = OBJECTIVES[task]
    weights = torch.tensor([[row[f"soup_weight/{name}"] for name in names] for row in refreshes])
    torch.testing.assert_close(weights.sum(1), torch.ones(8))
    assert (weights[0] - weights[-1]).abs().max() > 1e-3
    conf = yaml.safe_load((tmp_path / "exp/config.yaml").read_text())
    assert conf["trainer"] == "objsoup"
    check_espnet_decodes(task, tmp_path / "exp", ours)


def test_engines_agree(data, tmp_path) -> None:
    """Weights after two epochs, whichever way gradients are measured."""
    weights = {}
    for engine in ENGINES:
        conf = {**FLAT["trainer_conf"], "gradient_engine": engine, "layers": {"policy": "all"}}
        train(SoupSTTask, "st", data, tmp_path / engine, trainer="objsoup", trainer_conf=conf)
        last = json.loads((tmp_path / engine / "exp/soup.jsonl").read_text().splitlines()[-1])
        weights[engine] = [last[f"soup_weight/{name}"] for name in OBJECTIVES["st"]]
    for found in weights.values():
        assert found == pytest.approx(weights["reference"], rel=1e-4, abs=1e-5)


def test_resumed_soup_equals_uninterrupted(data, tmp_path) -> None:
    soup = {
        "trainer": "objsoup",
        "trainer_conf": {"recipe": "bilevel", "layers": {"policy": "all"}},
    }
    straight = train(SoupSTTask, "st", data, tmp_path / "a", **soup)
    train(SoupSTTask, "st", data, tmp_path / "b", max_epoch=1, **soup)
    resumed = train(SoupSTTask, "st", data, tmp_path / "b", resume=True, **soup)
    same(resumed, straight, rtol=0, atol=0)
    logs = [(tmp_path / name / "exp/soup.jsonl").read_text() for name in "ab"]
    assert logs[0] == logs[1]


def test_monitoring_changes_no_number(data, stock, tmp_path) -> None:
    conf = {"trainer": "objsoup", "trainer_conf": {"monitor": True, "layers": {"policy": "all"}}}
    ours = train(SoupASRTask, "asr", data, tmp_path, **conf)
    same(ours, stock["asr"], rtol=1e-9, atol=1e-12)
    assert "cosines" in (tmp_path / "exp/soup.jsonl").read_text()


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        (
            "asr",
            {"trainer_conf": {"recipe": "multilevel"}},
            "multilevel, which has a level of ssl",
        ),
        ("asr", {"trainer_conf": {"grups": 2}}, "unknown key grups"),
        ("asr", {"trainer_conf": {"recipe": "bilevel"}}, "needs objectives of task st"),
        ("asr", {"use_deepspeed": True}, "use_deepspeed: expected false"),
        ("asr", {"model": "maskctc", "decoder": "mlm"}, "found MaskCTCModel"),
        (
            "asr",
            {"model_conf": {"interctc_weight": 0.5}, "encoder_conf": {"interctc_layer_idx": [1]}},
            "interctc_weight",
        ),
        (
            "s2t",
            {
                "encoder_conf": {"interctc_layer_idx": [1], "interctc_use_conditioning": True},
            },
            "interctc_use_conditioning",
        ),
        ("st", {"model_conf": {"ctc_sample_rate": 0.1}}, "ctc_sample_rate"),
        (
            "st",
            {"md_encoder": "transformer", "md_encoder_conf": {"output_size": 16}},
            "md_encoder",
        ),
        ("st", {"model_conf": {"mt_weight": 0.1}, **FLAT}, "mt/att reads text"),
        ("st", {"model_conf": {"asr_weight": 0.5, "mt_weight": 0.5}}, "less than 1"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_cannot_be_done_right_is_refused(task, changes, message, data, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        train(OURS[task], task, data, tmp_path, **{"trainer": "objsoup", **changes})
    assert OURS[task].trainer is Trainer


def test_options_without_a_soup_are_refused(data, tmp_path) -> None:
    with pytest.raises(ValueError, match="trainer default takes no options, found recipe"):
        train(SoupASRTask, "asr", data, tmp_path, trainer_conf={"recipe": "flat"})


@pytest.mark.parametrize("task", OURS)
def test_commands(task, data, tmp_path, capsys) -> None:
    """ESPnet's command line under our module's name; errors of the user have no traceback."""
    main = import_module(f"espnet_objsoup.bin.{task}_train").main
    assert main([*command(task, data, tmp_path), "--dry_run", "true"]) == 0
    assert (tmp_path / "exp/config.yaml").exists()
    arguments = command(task, data, tmp_path, trainer="objsoup", trainer_conf={"recipe": "flt"})
    capsys.readouterr()
    assert main(arguments) == 1
    assert "error: trainer_conf.recipe: expected one of static, flat" in capsys.readouterr().err


def test_statistics_are_collected_with_the_same_yaml(data, tmp_path) -> None:
    """Stage 10 reads the YAML of stage 11."""
    words = [*command("asr", data, tmp_path, **FLAT), "--collect_stats", "true"]
    SoupASRTask.main(cmd=words)
    assert (tmp_path / "exp/train/feats_stats.npz").exists()


def test_configuration_of_espnet_itself_works(data, tmp_path) -> None:
    """Options made before there was a choice of trainer lack both keys."""
    args = SoupASRTask.get_parser().parse_args(command("asr", data, tmp_path))
    del args.trainer, args.trainer_conf
    SoupASRTask.main(args=args)
    assert (tmp_path / "exp/2epoch.pth").exists()


def test_page_is_right() -> None:
    """Its YAMLs are accepted, its names are all, its sed changes what it should."""
    text = PAGE.read_text()
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        conf = yaml.safe_load(block)["trainer_conf"]
        assert SoupConf.from_dict(conf).resolve(["asr/ctc", "asr/att", "st/ctc", "st/att"])
    table = text[text.index("| objective |") : text.index("An objective whose weight is 0")]
    assert set(re.findall(r"`(\w+/\w+)`", table)) == STOCK_OBJECTIVES
    expression = re.search(r"sed -i '(.*)' st_objsoup.sh", text)[1]
    lines = [f"-m espnet2.bin.{name}_train" for name in ("st", "${asr_task}", "s2t", "lm")]
    changed = subprocess.run(
        ["sed", expression], input="\n".join(lines), text=True, capture_output=True, check=True
    ).stdout.split("\n")
    assert changed == [*(line.replace("espnet2", "espnet_objsoup") for line in lines[:3]), lines[3]]
