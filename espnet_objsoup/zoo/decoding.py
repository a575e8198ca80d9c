# SPDX-License-Identifier: Apache-2.0
"""Options of the search that a model's scores were made with."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from espnet_objsoup.decoding.options import SearchOptions
from espnet_objsoup.zoo.errors import ModelError

_OPTIONS = (*(field.name for field in fields(SearchOptions)), "nbest", "ctc_greedy")


def options_of(decode_dir: Path) -> dict[str, Any] | None:
    """Options that stage 12 noted for all sets of a directory; None if it was not run.

    Args:
        decode_dir: `exp/<tag>/decode_...`, with a directory for each set.

    Raises:
        ModelError: if sets were decoded with different options.
    """
    found: dict[str, Any] | None = None
    for path in sorted(decode_dir.glob("*/decode.json")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            options = {name: report[name] for name in _OPTIONS if name in report}
        except (ValueError, TypeError) as err:
            raise ModelError(
                f"{path}: expected the options of decoding, found {err}; decode again (stage 12)"
            ) from err
        if found is not None and options != found:
            raise ModelError(
                f"{decode_dir}: expected all sets to be decoded with the same options, found "
                f"{_difference(found, options)} in {path}; decode again (stage 12)"
            )
        found = options
    return found


def dump_options(options: Mapping[str, Any]) -> bytes:
    """A YAML that `--config` of decoding reads."""
    return yaml.safe_dump(dict(options), sort_keys=True).encode()


def decode_dirs(experiment: Path, model_file: Path) -> list[Path]:
    """Directories with hypotheses of these weights, as the stage script names them."""
    found = sorted(experiment.glob(f"decode_*_{model_file.stem}"))
    return [path for path in found if any(path.glob("*/decode.json"))]


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    return ", ".join(f"{name} {one.get(name)} and {other.get(name)}" for name in sorted(names))
