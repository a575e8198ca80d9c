# SPDX-License-Identifier: Apache-2.0
"""The configurations for real corpora: which there are, and a batch for them."""

import json
import re
from pathlib import Path
from typing import Any

import torch
import yaml

ROOT = Path(__file__).parents[2]
# Recipe -> objectives with labels; for the bilingual ones those of both corpora.
LABELLED = {
    "covost2": [
        *("asr/ca", "asr/de", "asr/en", "asr/es", "asr/fr"),
        *("st/ca-en", "st/de-en", "st/es-en", "st/fr-en"),
    ],
    "librispeech": ["asr/en", "asr/zh"],
    "aishell": ["asr/en", "asr/zh"],
}
ALONE = {"librispeech": "asr/en", "aishell": "asr/zh"}
VOCABULARY = {"covost2": 5000, "librispeech": 5000, "aishell": 4235}
# Levels, top first, by task or objective.
BY_TASK = {
    "bilevel_as": ["asr", "st"],
    "bilevel_sa": ["st", "asr"],
    "multilevel_uas": ["asr", "st", "ssl"],
    "multilevel_usa": ["st", "asr", "ssl"],
}
BY_LANGUAGE = {
    "bilevel_en_zh": ["asr/en", "asr/zh"],
    "bilevel_zh_en": ["asr/zh", "asr/en"],
    "multilevel_uec": ["asr/en", "asr/zh", "ssl"],
    "multilevel_uce": ["asr/zh", "asr/en", "ssl"],
}
COMMON = {"static": ["asr st ssl"], "flat": ["asr st ssl"], "constrained": ["asr st", "ssl"]}
SOUPS = {
    recipe: {**COMMON, **(BY_TASK if recipe == "covost2" else BY_LANGUAGE)} for recipe in LABELLED
}
# Millions of parameters that a size may have.
SIZES = {"train.yaml": (75, 85), "train_small.yaml": (27, 35), "train_large.yaml": (145, 250)}
STAGES = ("pretrain_ssl", "finetune")
_MODEL = re.compile(r"(frontend|specaug|normalize|encoder|(asr|st)_decoder|model|ssl)(_conf)?|init")


def conf_of(recipe: str) -> Path:
    return ROOT / "egs2" / f"{recipe}_objsoup" / "conf"


def files_of(recipe: str) -> list[Path]:
    """All sizes, then conf/tuning."""
    tuning = [f"train_{name}" for name in SOUPS[recipe]] + list(STAGES)
    return [
        *(conf_of(recipe) / name for name in SIZES),
        *(conf_of(recipe) / "tuning" / f"{name}.yaml" for name in tuning),
    ]


FILES = [(recipe, path) for recipe in LABELLED for path in files_of(recipe)]


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def objectives_of(recipe: str, path: Path) -> list[str]:
    conf = load(path)
    return conf.get("objectives") or [*LABELLED[recipe], *(["ssl"] if conf.get("ssl") else [])]


def same_models() -> list[tuple[str, list[Path]]]:
    """Files by the model that they describe."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for recipe, path in FILES:
        model = {key: value for key, value in load(path).items() if _MODEL.fullmatch(key)}
        key = json.dumps([model, objectives_of(recipe, path)], sort_keys=True)
        groups.setdefault((recipe, key), []).append(path)
    return [(recipe, paths) for (recipe, _), paths in groups.items()]


def write_tokens(path: Path, languages: list[str], vocabulary: int) -> None:
    symbols = ["<blank>", "<unk>", *(f"<{lang}>" for lang in languages)]
    rest = (f"t{i}" for i in range(vocabulary - len(symbols) - 1))
    path.write_text("\n".join([*symbols, *rest, "<sos/eos>"]) + "\n")


def batch_of_noise(
    languages: list[str], pairs: list[tuple[str, str]]
) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Three utterances of 1.4 to 2 s: the last languages there are, translated where possible."""
    n, labels = 3, 5
    generator = torch.Generator().manual_seed(1)
    lang = [(len(languages) - 1 - i) % max(len(languages), 1) for i in range(n)]
    targets = dict(pairs)
    spoken = [languages[i] if languages else None for i in lang]
    target = [languages.index(targets[code]) if code in targets else -1 for code in spoken]
    translated = torch.tensor(target) >= 0
    tokens = torch.randint(100, 4000, (n, labels), generator=generator)
    samples = torch.tensor([32000 - 4800 * i for i in range(n)])
    speech = 0.1 * torch.randn(n, 32000, generator=generator)
    batch = {
        "speech": speech * (torch.arange(32000) < samples[:, None]),
        "speech_lengths": samples,
        "lang": torch.tensor(lang)[:, None],
        "tgt_lang": torch.tensor(target)[:, None],
        "text": tokens,
        "text_lengths": torch.full((n,), labels),
        "st_text": torch.where(translated[:, None], tokens, -1),
        "st_text_lengths": torch.where(translated, labels, 0),
    }
    return [f"u{i}" for i in range(n)], batch
