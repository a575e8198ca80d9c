# SPDX-License-Identifier: Apache-2.0
"""Paths in a model's configuration, which training wrote relative to the recipe's directory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_objsoup.zoo.errors import ModelError

# Options of the model that may name files; all else that looks like a path is a word.
BLOCKS = (
    "frontend_conf", "specaug_conf", "normalize_conf", "preencoder_conf", "encoder_conf",
    "asr_decoder_conf", "st_decoder_conf", "ssl_conf", "model_conf", "preprocessor_conf",
)  # fmt: skip
# The model's own files, without which it cannot be built.
NEEDED = ("bpemodel", "token_list", "normalize_conf.stats_file")

Find = Callable[[str], Path | None]


def path_options(conf: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Options that may name a file: dotted key and value."""
    for key in ("bpemodel", "token_list"):
        if isinstance(conf.get(key), str):
            yield key, conf[key]
    for block in BLOCKS:
        for key, value in leaves(conf.get(block), block):
            if _is_path(key, value):
                yield key, value


def leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """What an option holds in the end: dotted keys and values; items of a list share its key."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from leaves(item, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item, key)
    else:
        yield key, value


def map_paths(conf: Mapping[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
    """A copy whose path options are changed.

    Args:
        conf: configuration.
        change: of a dotted key and its value, the new value.
    """

    def walk(value: Any, key: str) -> Any:
        if isinstance(value, Mapping):
            return {name: walk(item, f"{key}.{name}") for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item, key) for item in value]
        return change(key, value) if _is_path(key, value) else value

    own = {"bpemodel", *BLOCKS}
    if isinstance(conf.get("token_list"), str):
        own.add("token_list")
    return {key: walk(value, key) if key in own else value for key, value in conf.items()}


def resolve(conf: Mapping[str, Any], find: Find, config: Path) -> dict[str, Any]:
    """A copy of a configuration with absolute paths.

    Args:
        conf: configuration.
        find: the file of a value, None if there is none.
        config: the configuration's file, for messages.

    Raises:
        ModelError: if a file is missing without which the model cannot be built.
    """

    def change(key: str, value: str) -> str:
        path = find(value)
        if path is not None and path.is_file():
            return str(path)
        if key in NEEDED:
            raise ModelError(
                f"{config}: {key}: expected a file, found none at {value}; put it back, or use the "
                "packed model (stage 14), which holds all its files"
            )
        return value

    return map_paths(conf, change)


def in_experiment(experiment: Path, conf: Mapping[str, Any]) -> Find:
    """Finds files that a configuration names relative to the recipe, wherever that is now.

    Args:
        experiment: directory of the configuration.
        conf: configuration.
    """
    experiment = experiment.absolute()
    roots = []
    # exp/<tag> was written from the recipe: what stands before it is the recipe's place.
    output_dir = Path(str(conf.get("output_dir") or ""))
    parts = len(output_dir.parts)
    if not output_dir.is_absolute() and experiment.parts[-parts:] == output_dir.parts:
        roots.append(Path(*experiment.parts[:-parts]))
    roots += [*experiment.parents, Path.cwd()]

    def find(value: str) -> Path | None:
        path = Path(value)
        if path.is_absolute():
            return path if path.is_file() else _by_tail(path, roots)
        return next((root / path for root in roots if (root / path).is_file()), None)

    return find


def in_package(directory: Path) -> Find:
    """Finds files of a packed model, in its directory and nowhere else.

    ESPnet's own unpacking puts the directory's name before paths; if it was moved since, or the
    name was relative, their ends are still true.
    """
    directory = directory.absolute()

    def find(value: str) -> Path | None:
        path = Path(value)
        if ".." in path.parts:
            return None
        found = directory / path  # `path` itself if it is absolute
        if found.is_relative_to(directory) and found != directory and found.exists():
            return found
        return _by_tail(path, [directory])

    return find


def _by_tail(path: Path, roots: Sequence[Path]) -> Path | None:
    """File of the longest end of a path, of at least two parts, that exists below a root."""
    parts = path.relative_to(path.anchor).parts
    for first in range(len(parts) - 1):
        for root in roots:
            found = root.joinpath(*parts[first:])
            if found.is_file():
                return found
    return None


def _is_path(key: str, value: Any) -> bool:
    if not isinstance(value, str) or not value:
        return False
    return key in NEEDED or "/" in value
