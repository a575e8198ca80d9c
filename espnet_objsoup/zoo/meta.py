# SPDX-License-Identifier: Apache-2.0
"""`meta.yaml` of a packed model: ESPnet's keys, and under `objsoup` what this package adds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from espnet_objsoup.objectives.numbers import is_number
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.safe_yaml import load_yaml

FILE_NAME = "meta.yaml"
# The keys are arguments of `Speech2Text`, to which ESPnet's downloader gives them.
TRAIN_CONFIG = "objsoup_train_config"
MODEL_FILE = "objsoup_model_file"
INFERENCE_CONFIG = "objsoup_inference_config"
FORMAT = 1


@dataclass(frozen=True)
class Meta:
    """Content of `meta.yaml`. Paths are relative to its directory.

    Attributes:
        files: argument of `Speech2Text` -> file that is used as it is.
        yaml_files: argument of `Speech2Text` -> YAML whose paths ESPnet makes absolute.
        timestamp: seconds since 1970; of the weights, not of packing.
        python, torch, espnet: versions of the environment that packed.
        facts: what `ModelFacts.as_dict` has, and `format`, `version` (of this package), `install`.
    """

    files: Mapping[str, str]
    yaml_files: Mapping[str, str]
    timestamp: float
    python: str = ""
    torch: str = ""
    espnet: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Version of espnet_objsoup that packed the model, empty if another tool did."""
        return str(self.facts.get("version", ""))

    @property
    def install(self) -> str:
        """Command that installs what the model needs."""
        return str(self.facts.get("install", ""))

    @classmethod
    def read(cls, path: Path) -> "Meta":
        """Content of a file.

        Raises:
            ModelError: if it is missing or not that of a model of this package.
        """
        if not path.is_file():
            raise ModelError(
                f"{path}: expected a packed model's description, found none; pack the experiment "
                "(stage 14) or correct the name"
            )
        return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, content: bytes, name: str) -> "Meta":
        """Content of a file that is in memory.

        Args:
            content: of the file.
            name: for messages.

        Raises:
            ModelError: if it is not that of a model of this package.
        """
        values = load_yaml(content, name)
        if not isinstance(values, dict):
            raise ModelError(f"{name}: expected keys and values, found {_short(values)}")
        files = _paths(values, "files", name)
        yaml_files = _paths(values, "yaml_files", name)
        for key, block in ((TRAIN_CONFIG, yaml_files), (MODEL_FILE, files)):
            if key not in block:
                found = ", ".join([*yaml_files, *files]) or "none"
                raise ModelError(
                    f"{name}: expected {key}, as in a model of espnet_objsoup, found {found}; "
                    "a model of another ESPnet task is loaded by that task's own command"
                )
        facts = values.get("objsoup", {})
        if not isinstance(facts, dict):
            raise ModelError(f"{name}: objsoup: expected keys and values, found {_short(facts)}")
        timestamp = values.get("timestamp", 0.0)
        if not is_number(timestamp):
            raise ModelError(f"{name}: timestamp: expected seconds, found {_short(timestamp)}")
        versions = {key: str(values.get(key, "")) for key in ("python", "torch", "espnet")}
        return cls(files, yaml_files, float(timestamp), **versions, facts=facts)

    def dump(self) -> bytes:
        """The file's content; equal descriptions give equal bytes."""
        values = asdict(self)
        values["objsoup"] = values.pop("facts")
        return yaml.safe_dump(values, allow_unicode=True, sort_keys=True, width=100).encode()


def check_relative(value: object, where: str) -> str:
    """A path that stays within its directory.

    Raises:
        ModelError: for anything else.
    """
    path = PurePosixPath(value) if isinstance(value, str) and value else None
    if path is None or path.is_absolute() or ".." in path.parts or "\\" in value or ":" in value:
        raise ModelError(
            f"{where}: expected a path within the model's directory, found {_short(value)}"
        )
    return str(value)


def _paths(values: Mapping[str, Any], block: str, name: str) -> dict[str, str]:
    found = values.get(block)
    if not isinstance(found, dict):
        raise ModelError(f"{name}: {block}: expected names of files, found {_short(found)}")
    return {
        str(key): check_relative(value, f"{name}: {block}.{key}") for key, value in found.items()
    }


def _short(value: object) -> str:
    return repr(value)[:80]
