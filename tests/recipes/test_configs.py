# SPDX-License-Identifier: Apache-2.0
"""Every configuration of every recipe builds its model, at full size."""

import argparse
import gc
import re
from pathlib import Path

import pytest
import torch
import yaml
from espnet2.tasks.abs_task import scheduler_classes
from espnet2.torch_utils.load_pretrained_model import load_pretrained_model
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import Reporter

from espnet_objsoup.bin import check_config
from espnet_objsoup.inference import SearchOptions
from espnet_objsoup.objectives.table import level_coefficients
from espnet_objsoup.tasks.objective_discovery import languages_of
from espnet_objsoup.tasks.objsoup import ObjSoupTask
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from espnet_objsoup.train.options import SoupConf, check_trainer_conf
from espnet_objsoup.train.soup_run import SoupRun

from .real_configs import (
    ALONE,
    FILES,
    LABELLED,
    SIZES,
    SOUPS,
    STAGES,
    VOCABULARY,
    batch_of_noise,
    conf_of,
    files_of,
    load,
    objectives_of,
    same_models,
    write_tokens,
)

ROOT = Path(__file__).parents[2]
REAL = [path for _, path in FILES]
SMALL = [p for p in sorted((ROOT / "egs2").glob("*/conf/**/train*.yaml")) if p not in REAL]
DECODE = sorted((ROOT / "egs2").glob("*/conf/**/decode*.yaml"))
OBJECTIVES = ["asr/en", "asr/fr", "st/fr-en"]
CARD = re.compile(r"^#   (\d+) GB: --train_args \"--batch_bins (\d+) --accum_grad (\d+)\"$", re.M)
tuning = pytest.mark.parametrize(
    ("recipe", "name"), [(recipe, name) for recipe, soups in SOUPS.items() for name in soups]
)
recipes = pytest.mark.parametrize("recipe", list(LABELLED))


def relative(value: object) -> str | None:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else None


def parse(path: Path, objectives: list[str], tmp_path: Path, vocabulary: int, *more: str):
    tokens = tmp_path / "tokens.txt"
    write_tokens(tokens, sorted({"en", "fr", *languages_of(objectives)}), vocabulary)
    command = ["--config", str(path), "--token_list", str(tokens), "--objectives", *objectives]
    args = ObjSoupTask.get_parser().parse_args([*command, "--output_dir", str(tmp_path), *more])
    check_trainer_conf(args.trainer, args.trainer_conf)
    return args


def test_configurations_were_found() -> None:
    assert len(SMALL) >= 3
    assert any(path.parent.name == "tuning" for path in SMALL)
    assert DECODE
    for recipe in LABELLED:
        found = {path.name for path in (conf_of(recipe) / "tuning").iterdir()}
        assert found == {f"train_{name}.yaml" for name in SOUPS[recipe]} | {
            f"{name}.yaml" for name in STAGES
        }
        assert (conf_of(recipe) / "decode.yaml").exists()


@pytest.mark.parametrize("path", SMALL, ids=relative)
def test_training(path: Path, tmp_path: Path) -> None:
    self_supervised = yaml.safe_load(path.read_text()).get("ssl")
    objectives = [*OBJECTIVES, "ssl"] if self_supervised else OBJECTIVES
    args = parse(path, objectives, tmp_path, 305)
    model = ObjSoupTask.build_model(args)
    assert sum(p.numel() for p in model.parameters()) > 100_000
    ObjSoupTask.build_optimizers(args, model)


@pytest.mark.parametrize("path", DECODE, ids=relative)
def test_decoding(path: Path) -> None:
    conf = yaml.safe_load(path.read_text())
    conf.pop("ctc_greedy", None)
    SearchOptions.from_dict(conf)


def train_step(args: argparse.Namespace, model: torch.nn.Module, batch: tuple) -> SoupRun:
    """One step of the trainer that the configuration names."""
    options = ObjSoupTrainer.build_options(args)
    options.run = SoupRun(options.soup, model)
    (optimizer,) = ObjSoupTask.build_optimizers(args, model)
    reporter = Reporter()
    reporter.set_epoch(1)
    with reporter.observe("train") as observed:
        stuck = ObjSoupTrainer.train_one_epoch(
            model=model,
            iterator=[batch],
            optimizers=[optimizer],
            schedulers=[scheduler_classes[args.scheduler](optimizer, **args.scheduler_conf)],
            scaler=None,  # as on every CPU
            reporter=observed,
            summary_writer=None,
            options=options,
            distributed_option=DistributedOption(),
        )
        observed.finished()
    assert not stuck
    return options.run


@pytest.mark.parametrize(
    ("recipe", "paths"), same_models(), ids=lambda v: relative(v[0]) if isinstance(v, list) else ""
)
def test_a_step_at_full_size(recipe: str, paths: list[Path], tmp_path: Path) -> None:
    """A model is built once for all files that describe it; each one's soup trains it a step."""
    gc.collect()
    objectives = objectives_of(recipe, paths[0])
    pairs = [tuple(name[3:].split("-")) for name in objectives if name.startswith("st/")]
    model = None
    for path in paths:
        args = parse(path, objectives, tmp_path, VOCABULARY[recipe], "--accum_grad", "1")
        model = model or ObjSoupTask.build_model(args)
        if path.name in SIZES:
            low, high = SIZES[path.name]
            stated = re.search(r"(\d+) M parameters", path.read_text())
            millions = sum(p.numel() for p in model.parameters()) / 1e6
            assert low <= millions <= high
            assert round(millions) == int(stated[1])
        check_step(args, model, batch_of_noise(list(model.languages), pairs), path)


def check_step(args: argparse.Namespace, model: torch.nn.Module, batch: tuple, path: Path) -> None:
    """That a step moves the encoder and all heads, with the levels and layers of the file."""
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.ndim == 1}
    run = train_step(args, model, batch)
    assert run.steps == 1, path
    assert not run.faults.skipped, path
    soup = SoupConf.from_dict(load(path)["trainer_conf"])
    assert [set(level.objectives) for level in run.levels] == [
        set(level.objectives) for level in soup.resolve(list(args.objectives))
    ], path
    moved = {name.split(".")[0] for name, p in model.named_parameters()
             if name in before and not torch.equal(p, before[name])}  # fmt: skip
    heads = {f"{name.split('/')[0]}_head" for name in args.objectives}
    assert moved == {"encoder", *heads}, path
    assert all(p.isfinite().all() for p in model.parameters()), path
    # Fixed weights need no gradients of layers.
    assert bool(run.selector.selected) == run.measures, path


@tuning
def test_levels(recipe: str, name: str) -> None:
    path = conf_of(recipe) / "tuning" / f"train_{name}.yaml"
    objectives = objectives_of(recipe, path)
    levels = SoupConf.from_dict(load(path)["trainer_conf"]).resolve(objectives)
    expected = [
        {x for x in objectives if {x, x.split("/")[0]} & set(names.split())}
        for names in SOUPS[recipe][name]
    ]
    assert [set(level.objectives) for level in levels] == expected


@pytest.mark.parametrize("recipe", list(ALONE))
def test_one_corpus_alone_needs_no_second_language(recipe: str) -> None:
    for path in files_of(recipe):
        conf = load(path)
        if path.stem.startswith(("train_bilevel", "train_multilevel")):
            assert f"--{'aishell' if recipe == 'librispeech' else 'librispeech'} " in (
                path.read_text()
            )
            continue
        objectives = conf.get("objectives") or [ALONE[recipe], *(["ssl"] if "ssl" in conf else [])]
        SoupConf.from_dict(conf["trainer_conf"]).resolve(objectives)


@tuning
def test_penalties_go_through_the_papers_schedule(recipe: str, name: str) -> None:
    """0.02 per epoch, in 200 epochs: the cap of 1.5 after 37 % of the run."""
    conf = load(conf_of(recipe) / "tuning" / f"train_{name}.yaml")
    path = conf_of(recipe) / "tuning" / f"train_{name}.yaml"
    levels = SoupConf.from_dict(conf["trainer_conf"]).resolve(objectives_of(recipe, path))
    n = conf["max_epoch"]
    if len(levels) == 1:
        return
    for finished in range(n):
        paper = min(levels[1].penalty_conf["init"] + 0.02 * finished * 200 / n, 1.5)
        assert level_coefficients(levels, finished + 1)[1] == pytest.approx(paper, rel=0.02)


@recipes
def test_only_the_soup_differs(recipe: str) -> None:
    _, _, rest = (conf_of(recipe) / "train.yaml").read_text().partition("frontend: default\n")
    for path in files_of(recipe):
        if path.parent.name == "tuning" and path.stem != "finetune":
            assert path.read_text().partition("frontend: default\n")[2] == rest != "", path
    own = load(conf_of(recipe) / "tuning" / "finetune.yaml")
    base = load(conf_of(recipe) / "train.yaml")
    different = {key for key in {*own, *base} if own.get(key) != base.get(key)}
    assert different == {"ssl", "optim_conf", "scheduler_conf", "max_epoch"}
    assert own["max_epoch"] * 2 == base["max_epoch"]


@recipes
def test_larger_cards_take_the_same_steps(recipe: str) -> None:
    for name in SIZES:
        path = conf_of(recipe) / name
        conf = load(path)
        effective = conf["batch_bins"] * conf["accum_grad"]
        cards = CARD.findall(path.read_text())
        assert [memory for memory, _, _ in cards] == ["40", "80"]
        assert all(int(bins) * int(accum) == effective for _, bins, accum in cards)
        bins = [conf["batch_bins"], *(int(bins) for _, bins, _ in cards)]
        assert bins == sorted(bins)


@recipes
def test_statistics_serve_all(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Stage 10 need not be repeated for another file of the recipe."""
    decode = str(conf_of(recipe) / "decode.yaml")
    for path in files_of(recipe):
        command = ["--config", str(path), "--inference_config", decode]
        assert check_config.main(command) == 0
    assert len(set(capsys.readouterr().out.split())) == 1


@recipes
def test_commands_in_the_files(recipe: str) -> None:
    for path in files_of(recipe):
        if path.parent.name != "tuning":
            continue
        text = path.read_text()
        assert f"--config conf/tuning/{path.name}" in text.partition("\n\n")[0]
    pretrain = (conf_of(recipe) / "tuning" / "pretrain_ssl.yaml").read_text()
    finetune = (conf_of(recipe) / "tuning" / "finetune.yaml").read_text()
    tag = re.search(r"--tag (\S+)", pretrain)[1]
    assert f"--init_param exp/{tag}/valid.loss.ave.pth:encoder:encoder\n" in finetune
    assert load(conf_of(recipe) / "tuning" / "pretrain_ssl.yaml")["best_model_criterion"] == [
        ["valid", "loss", "min"]
    ]


def test_two_stages_at_full_size(tmp_path: Path) -> None:
    """What pre-training leaves is what `--init_param` of fine-tuning takes, and nothing else."""
    folder = conf_of("covost2") / "tuning"
    args = parse(folder / "pretrain_ssl.yaml", ["ssl"], tmp_path, 5000)
    model = ObjSoupTask.build_model(args)
    weights = tmp_path / "valid.loss.ave.pth"
    torch.save(model.state_dict(), weights)
    trained = {name: p.double().sum() for name, p in model.encoder.named_parameters()}
    del model
    gc.collect()
    args = parse(folder / "finetune.yaml", LABELLED["covost2"], tmp_path, 5000)
    model = ObjSoupTask.build_model(args)
    before = {name: p.double().sum() for name, p in model.named_parameters()}
    text = (folder / "finetune.yaml").read_text()
    suffix = re.search(r"--init_param \S+?\.pth(\S+)", text)[1]
    load_pretrained_model(f"{weights}{suffix}", model, False, map_location="cpu")
    for name, p in model.named_parameters():
        own = (
            trained[name.removeprefix("encoder.")] if name.startswith("encoder.") else before[name]
        )
        assert p.double().sum() == own, name
    assert sum(trained.values()) != sum(before[f"encoder.{name}"] for name in trained)
    weights.unlink()
