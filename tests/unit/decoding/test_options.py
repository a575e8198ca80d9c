# SPDX-License-Identifier: Apache-2.0
import re
from dataclasses import fields
from pathlib import Path

from espnet_objsoup.bin.decode import get_parser
from espnet_objsoup.decoding.options import DecodeOptions, SearchOptions

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "decoding.md").read_text(encoding="utf-8")


def test_file_without_options_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "decode.yaml").write_text("# nothing\n")
    assert DecodeOptions.from_yaml(tmp_path / "decode.yaml") == DecodeOptions()
    assert DecodeOptions.from_yaml(None, 3).nbest == 3


def test_every_recipe_has_valid_options() -> None:
    recipes = sorted(ROOT.glob("egs2/*/conf/**/decode*.yaml"))
    assert recipes
    for path in recipes:
        assert DecodeOptions.from_yaml(path).search.beam_size >= 1


def test_guide_names_every_option_and_default() -> None:
    rows = dict(re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", GUIDE, re.MULTILINE))
    documented = {name for cell in rows for name in re.findall(r"`([a-z_]+)", cell)}
    names = {field.name for field in (*fields(SearchOptions), *fields(DecodeOptions))}
    assert names - {"search"} <= documented
    assert rows["`beam_size`"].strip() == str(SearchOptions().beam_size)
    required = {"train_config", "model_file", "data_dir", "output_dir", "config"}
    options = {action.dest for action in get_parser()._actions} - {"help"}
    assert all(f"--{name}" in GUIDE for name in options)
    assert required <= options
