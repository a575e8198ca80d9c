# SPDX-License-Identifier: Apache-2.0
"""Every configuration of every recipe builds its model, at full size."""

from pathlib import Path

import pytest
import yaml

from espnet_objsoup.inference import SearchOptions
from espnet_objsoup.tasks.objsoup import ObjSoupTask
from espnet_objsoup.train.options import check_trainer_conf

ROOT = Path(__file__).parents[2]
TRAIN = sorted((ROOT / "egs2").glob("*/conf/**/train*.yaml"))
DECODE = sorted((ROOT / "egs2").glob("*/conf/**/decode*.yaml"))
OBJECTIVES = ["asr/en", "asr/fr", "st/fr-en"]


def test_configurations_were_found() -> None:
    assert len(TRAIN) >= 3
    assert any(path.parent.name == "tuning" for path in TRAIN)
    assert DECODE


@pytest.mark.parametrize("path", TRAIN, ids=lambda p: str(p.relative_to(ROOT)))
def test_training(path: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.txt"
    names = ["<blank>", "<unk>", "<en>", "<fr>", *(f"t{i}" for i in range(300)), "<sos/eos>"]
    tokens.write_text("\n".join(names) + "\n")
    self_supervised = yaml.safe_load(path.read_text()).get("ssl")
    objectives = [*OBJECTIVES, "ssl"] if self_supervised else OBJECTIVES
    command = ["--config", str(path), "--token_list", str(tokens), "--objectives", *objectives]
    args = ObjSoupTask.get_parser().parse_args([*command, "--output_dir", str(tmp_path)])
    check_trainer_conf(args.trainer, args.trainer_conf)
    model = ObjSoupTask.build_model(args)
    assert sum(p.numel() for p in model.parameters()) > 100_000
    ObjSoupTask.build_optimizers(args, model)


@pytest.mark.parametrize("path", DECODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_decoding(path: Path) -> None:
    conf = yaml.safe_load(path.read_text())
    conf.pop("ctc_greedy", None)
    SearchOptions.from_dict(conf)
