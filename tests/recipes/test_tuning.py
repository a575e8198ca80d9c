# SPDX-License-Identifier: Apache-2.0
"""The soups in the mini recipe's conf/tuning."""

import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_objsoup.bin.train import main
from espnet_objsoup.objectives.table import level_coefficients, soup_table
from espnet_objsoup.tasks.objsoup import ObjSoupTask
from espnet_objsoup.train.options import SoupConf
from espnet_objsoup.train.soup_run import SoupRun

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "egs2" / "mini_objsoup"
GUIDE = ROOT / "docs" / "soups.md"
LANGUAGES = {"train.yaml": ["de", "en", "es", "fr"], "train_tiny.yaml": ["de", "en", "fr"]}
# Levels by task or language; a language's level holds its recognition and its translation.
SOUPS = {
    "static": ["asr st"],
    "flat": ["asr st"],
    "constrained": ["asr st", "ssl"],
    "bilevel_as": ["asr", "st"],
    "bilevel_sa": ["st", "asr"],
    "multilevel_uas": ["asr", "st", "ssl"],
    "multilevel_usa": ["st", "asr", "ssl"],
    "languages": ["en", "fr", "de", "es"],
}
PREFIXES = {"train_": "train.yaml", "train_tiny_": "train_tiny.yaml"}
CASES = [
    (f"{prefix}{name}.yaml", base, name) for prefix, base in PREFIXES.items() for name in SOUPS
]
SOUP_KEYS = ("trainer", "trainer_conf", "ssl", "ssl_conf")
cases = pytest.mark.parametrize(("file", "base", "name"), CASES, ids=[case[0] for case in CASES])


def path_of(file: str) -> Path:
    return RECIPE / "conf" / "tuning" / file


def load(file: str) -> dict[str, Any]:
    return yaml.safe_load(path_of(file).read_text())


def objectives_of(base: str, conf: dict[str, Any]) -> list[str]:
    languages = LANGUAGES[base]
    pairs = [f"st/{lang}-en" for lang in languages if lang != "en"]
    return [*(f"asr/{lang}" for lang in languages), *pairs, *(["ssl"] if conf.get("ssl") else [])]


def test_every_soup_has_both_sizes() -> None:
    found = {path.name for path in (RECIPE / "conf" / "tuning").iterdir()}
    assert found == {file for file, _, _ in CASES}


@cases
def test_only_the_soup_differs(file: str, base: str, name: str) -> None:
    def rest(path: Path) -> dict[str, Any]:
        conf = yaml.safe_load(path.read_text())
        return {key: value for key, value in conf.items() if key not in SOUP_KEYS}

    origin = RECIPE / "conf" / base
    assert rest(path_of(file)) == rest(origin)
    # Comments too, so that the files can be compared with diff.
    both = [path.read_text().partition("frontend: default\n") for path in (path_of(file), origin)]
    assert both[0][2] == both[1][2] != ""


@cases
def test_levels(file: str, base: str, name: str) -> None:
    conf = load(file)
    assert conf["trainer"] == "objsoup"
    objectives = objectives_of(base, conf)
    levels = SoupConf.from_dict(conf["trainer_conf"]).resolve(objectives)
    if name == "languages":
        expected = [
            {f"asr/{lang}", f"st/{lang}-en"} & set(objectives)
            for lang in SOUPS[name]
            if lang in LANGUAGES[base]
        ]
    else:
        expected = [
            {known for known in objectives if known.split("/")[0] in tasks.split()}
            for tasks in SOUPS[name]
        ]
    assert [set(level.objectives) for level in levels] == expected


@cases
def test_comments_say_how_it_is_run(file: str, base: str, name: str) -> None:
    size = "" if base == "train.yaml" else " --size tiny"
    text = path_of(file).read_text()
    assert f"#   ./run.sh{size} --config conf/tuning/{file}\n" in text
    assert f"conf/{base}." in text


@cases
def test_penalties_go_through_the_papers_schedule(file: str, base: str, name: str) -> None:
    """0.02 per epoch, in 200 epochs: the cap of 1.5 after 37 % of the run."""
    conf = load(file)
    soup = SoupConf.from_dict(conf["trainer_conf"])
    levels = soup.resolve(objectives_of(base, conf))
    if len(levels) == 1:
        return
    assert {level.penalty for level in levels[1:]} == {"linear"}
    n = conf["max_epoch"]
    factors = [1.0, *(1.5 for _ in levels[1:])]
    highest = [math.prod(factors[: j + 1]) for j in range(len(factors))]
    assert level_coefficients(levels, n) == pytest.approx(highest)
    for finished in range(n):
        paper = min(levels[1].penalty_conf["init"] + 0.02 * finished * 200 / n, 1.5)
        ours = level_coefficients(levels, finished + 1)[1]
        assert ours == pytest.approx(paper, rel=0.02), finished


@pytest.mark.parametrize("name", ["languages", "multilevel_uas"])
def test_tables_in_the_guide_are_what_print_soup_says(name: str) -> None:
    conf = load(f"train_tiny_{name}.yaml")
    levels = SoupConf.from_dict(conf["trainer_conf"]).resolve(
        objectives_of("train_tiny.yaml", conf)
    )
    assert f"```\n{soup_table(levels)}\n```" in GUIDE.read_text()


def test_worked_example_in_the_guide_is_the_file() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    conf = load("train_tiny_languages.yaml")
    assert {key: conf[key] for key in ("trainer", "trainer_conf")} in map(yaml.safe_load, blocks)


def test_the_drawing_follows_the_readers_colours() -> None:
    path = ROOT / "docs" / "images" / "soup_levels.svg"
    assert f"images/{path.name}" in GUIDE.read_text()
    ElementTree.parse(path)  # well-formed
    text = path.read_text()
    assert "prefers-color-scheme: dark" in text
    assert "currentColor" in text
    assert "#010101" not in text


def batch_of_noise(languages: list[str]) -> dict[str, torch.Tensor]:
    """An utterance of every language, translated into English where it is another."""
    n, english = len(languages), languages.index("en")
    generator = torch.Generator().manual_seed(1)
    lang = torch.arange(n)[:, None]
    translated = (lang != english)[:, 0]
    tokens = torch.randint(12, 20, (n, 4), generator=generator)
    return {
        "speech": torch.randn(n, 32000, generator=generator),
        "speech_lengths": torch.tensor([32000 - 1600 * i for i in range(n)]),
        "lang": lang,
        "tgt_lang": torch.where(translated, english, -1)[:, None],
        "text": tokens,
        "text_lengths": torch.full((n,), 4),
        "st_text": torch.where(translated[:, None], tokens, -1),
        "st_text_lengths": torch.where(translated, 4, 0),
    }


@cases
def test_model_is_built_and_every_objective_gets_a_gradient(
    file: str, base: str, name: str, tmp_path: Path
) -> None:
    conf = load(file)
    objectives = objectives_of(base, conf)
    tokens = tmp_path / "tokens.txt"
    symbols = ["<blank>", "<unk>", *(f"<{lang}>" for lang in LANGUAGES[base])]
    tokens.write_text("\n".join([*symbols, *(f"t{i}" for i in range(30)), "<sos/eos>"]) + "\n")
    args = ObjSoupTask.get_parser().parse_args(
        ["--config", str(path_of(file)), "--token_list", str(tokens),
         "--output_dir", str(tmp_path), "--objectives", *objectives]
    )  # fmt: skip
    model = ObjSoupTask.build_model(args)
    soup = SoupConf.from_dict(args.trainer_conf)
    run = SoupRun(soup, model)
    assert len(run.selector.selected) == soup.layers.last_k < len(run.layers)
    out = model(**batch_of_noise(LANGUAGES[base]))
    measured = run.layers[run.selector.selected[0]].parameters
    for objective in objectives:
        assert int(out["counts"][objective]) >= 1
        gradients = torch.autograd.grad(
            out["losses"][objective], measured, retain_graph=True, allow_unused=True
        )
        norm = sum(float(g.square().sum()) for g in gradients if g is not None)
        assert math.isfinite(norm)
        assert norm > 0, objective


def write_corpus(directory: Path) -> None:
    """Data, statistics and tokens of two languages, noise as speech, as stages 1 to 10 leave it."""
    draw = np.random.default_rng(1)
    for split, n in (("train", 48), ("valid", 8)):
        data, stats = directory / split, directory / "stats" / split
        data.mkdir(parents=True)
        stats.mkdir(parents=True)
        lines: dict[str, list[str]] = {}
        for i in range(n):
            key, french = f"u{i:03d}", i % 2 == 1
            samples = int(draw.integers(24000, 32000))
            soundfile.write(data / f"{key}.wav", 0.1 * draw.standard_normal(samples), 16000)
            row = {
                "wav.scp": str(data / f"{key}.wav"),
                "text": "a b c",
                "st_text": "c a" if french else "<na>",
                "utt2lang": "fr" if french else "en",
                "utt2tgt": "en" if french else "<na>",
                "utt2num_samples": str(samples),
            }
            for name, value in row.items():
                lines.setdefault(name, []).append(f"{key} {value}\n")
        for name, content in lines.items():
            (data / name).write_text("".join(content))
        (stats / "speech_shape").write_text("".join(lines["utt2num_samples"]))
    (directory / "tokens").mkdir()
    symbols = ["<blank>", "<unk>", "<en>", "<fr>", "<space>", "a", "b", "c", "<sos/eos>"]
    (directory / "tokens" / "tokens.txt").write_text("\n".join(symbols) + "\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of a soup with self-supervision, by the command of stage 11."""
    directory = tmp_path_factory.mktemp("soup")
    write_corpus(directory)
    status = main(
        ["--config", str(path_of("train_tiny_multilevel_uas.yaml")),
         "--train_dir", f"{directory}/train", "--valid_dir", f"{directory}/valid",
         "--stats_dir", f"{directory}/stats", "--token_dir", f"{directory}/tokens",
         "--output_dir", f"{directory}/exp", "--max_epoch", "2", "--num_workers", "0",
         "--trainer_conf", "weights_interval=2", "--use_tensorboard", "false"]
    )  # fmt: skip
    assert status == 0
    return directory / "exp"


def test_the_log_of_a_trained_soup(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "soup.jsonl").read_text().splitlines()]
    refreshes = [line for line in lines if line["kind"] == "refresh"]
    names = ["asr/en", "asr/fr", "st/fr-en", "ssl"]
    weights = np.array([[line[f"soup_weight/{name}"] for name in names] for line in refreshes])
    assert len(weights) >= 4
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights @ [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], 1, rtol=1e-5)
    assert np.ptp(weights[:, 0]) > 1e-3  # they move
    for epoch, expected in ((1, (1.0, 0.1, 0.0)), (2, (1.0, 0.5, 0.2))):
        last = [line for line in refreshes if line["epoch"] == epoch][-1]
        levels = [last[f"soup_level_coefficient/{j}"] for j in (1, 2, 3)]
        assert levels == pytest.approx(expected), epoch
    assert {line["soup_skipped_steps"] for line in refreshes} == {0.0}


def test_losses_of_a_trained_soup_are_finite(trained: Path) -> None:
    reporter = torch.load(trained / "checkpoint.pth", weights_only=False)["reporter"]["stats"]
    for epoch in (1, 2):
        for split in ("train", "valid"):
            for name in ("loss", "loss_asr", "loss_st", "loss_ssl"):
                assert math.isfinite(reporter[epoch][split][name]), (epoch, split, name)
    assert (trained / "valid.loss.ave.pth").exists()
