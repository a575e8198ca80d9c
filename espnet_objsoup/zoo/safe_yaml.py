# SPDX-License-Identifier: Apache-2.0
"""YAML of strangers: small, and not one that grows when it is walked through."""

from pathlib import Path
from typing import Any

from espnet_objsoup.data import yaml_file
from espnet_objsoup.zoo.errors import ModelError

MAX_BYTES = 16 << 20
# A configuration is its token list, mostly; aliases of aliases reach any number in a few lines.
MAX_VALUES = 2_000_000


def load_yaml(content: bytes, name: str) -> Any:
    """Values of a file.

    Args:
        content: of the file.
        name: for messages.

    Raises:
        ModelError: if it is no YAML, or larger than a configuration is.
    """
    if len(content) > MAX_BYTES:
        raise ModelError(f"{name}: expected at most {MAX_BYTES} bytes, found {len(content)}")
    try:
        values = yaml_file.load_yaml(content)
        count = _size(values, {})
    except yaml_file.YamlError as err:
        raise ModelError(f"{name}: {err.message[:240]}") from err
    except RecursionError as err:
        raise ModelError(f"{name}: expected YAML, found lists within lists without end") from err
    if count > MAX_VALUES:
        raise ModelError(
            f"{name}: expected at most {MAX_VALUES} values, found more, by aliases of aliases; do "
            "not use this model"
        )
    return values


def check_yaml(path: Path) -> None:
    """Refuse a file that `load_yaml` refuses.

    Raises:
        ModelError: as `load_yaml`.
    """
    with open(path, "rb") as file:
        load_yaml(file.read(MAX_BYTES + 1), str(path))


def _size(value: Any, known: dict[int, int]) -> int:
    """Number of values with all aliases written out; no value holds itself.

    Raises:
        RecursionError: if they are nested too deeply.
    """
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(item, known) for item in items)
    return known[id(value)]
