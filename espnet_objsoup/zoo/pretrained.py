# SPDX-License-Identifier: Apache-2.0
"""Find a trained model: an experiment, a packed or unpacked one, or one of the hub.

Imports neither torch nor espnet2.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_objsoup.inference.lengths import noted_length
from espnet_objsoup.zoo.archive import check_nested
from espnet_objsoup.zoo.cache import cache_root, keep_file, unpack_to_cache
from espnet_objsoup.zoo.config import dump_conf, for_model, read_conf
from espnet_objsoup.zoo.decoding import decode_dirs, dump_options, options_of
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.meta import FILE_NAME, INFERENCE_CONFIG, MODEL_FILE, TRAIN_CONFIG, Meta
from espnet_objsoup.zoo.pickles import check_weights
from espnet_objsoup.zoo.resolve import in_experiment, in_package, path_options, resolve
from espnet_objsoup.zoo.safe_yaml import check_yaml
from espnet_objsoup.zoo.self_contained import check_self_contained
from espnet_objsoup.zoo.versions import check_versions

DEFAULT_WEIGHTS = "valid.loss.ave.pth"
_NOT_SELF_CONTAINED = (
    "what it names would be loaded when the model is built, and could run any program. A model of "
    "your own is loaded from its experiment (exp/<tag>)"
)
_TAG = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")  # as on the hub


@dataclass(frozen=True)
class PretrainedModel:
    """Files of a model, usable from any working directory.

    Attributes:
        train_config: configuration whose paths are all absolute.
        model_file: weights.
        meta: description of a packed model, None of an experiment.
        directory: of the model's files: where `meta.yaml` lies, or the experiment.
        inference_config: options of the search (a YAML of stage 12) that its scores were made with,
            None if they are not known.
    """

    train_config: Path
    model_file: Path
    meta: Meta | None
    directory: Path
    inference_config: Path | None = None

    @property
    def arguments(self) -> dict[str, str]:
        """Arguments of `Speech2Text`, under the names that ESPnet's downloader gives them."""
        found = {
            "objsoup_train_config": str(self.train_config),
            "objsoup_model_file": str(self.model_file),
        }
        if self.inference_config is not None:
            found["objsoup_inference_config"] = str(self.inference_config)
        return found


def find_model(source: str | Path, cache_dir: Path | None = None) -> PretrainedModel:
    """Files of a model, which is unpacked or downloaded first if need be.

    Args:
        source: directory of an experiment (`exp/<tag>`, with `valid.loss.ave.pth`) or weights in
            it; directory of an unpacked model (with `meta.yaml`); a packed zip; `user/name` on the
            hub.
        cache_dir: where models are unpacked to; None: `$OBJSOUP_CACHE`, else
            `~/.cache/espnet_objsoup`.

    Raises:
        ModelError: saying what was expected and found.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".zip":
        return _packed(unpack_to_cache(path, cache_dir), cache_dir)
    if path.is_file():
        return _experiment(path.parent, path, cache_dir)
    if path.is_dir() and (path / FILE_NAME).is_file():
        return _packed(path, cache_dir)
    if path.is_dir():
        return _experiment(path, default_weights(path), cache_dir)
    if _TAG.fullmatch(str(source)):
        return _packed(_download(str(source), cache_dir), cache_dir)
    raise ModelError(
        f"{source}: expected an experiment (exp/<tag>), a packed model (.zip), the directory of an "
        "unpacked one, or user/name on the hub; found no such file or directory"
    )


def default_weights(experiment: Path) -> Path:
    """Weights of an experiment where none are named.

    Raises:
        ModelError: if there are none, or several without the usual name.
    """
    usual = experiment / DEFAULT_WEIGHTS
    if usual.is_file():
        return usual
    found = sorted(path for path in experiment.glob("*.ave.pth") if path.is_file())
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in sorted(experiment.glob("*.pth"))) or "no .pth file"
    raise ModelError(
        f"{experiment}: expected averaged weights such as {DEFAULT_WEIGHTS}, found {names}; train "
        "first (stage 11), or name the weights themselves"
    )


def _experiment(directory: Path, model_file: Path, cache_dir: Path | None) -> PretrainedModel:
    directory = directory.absolute()
    config = directory / "config.yaml"
    conf = read_conf(config)
    find = in_experiment(directory, conf)
    resolved = {**resolve(conf, find, config), **noted_length(conf, find)}
    kept = cache_root(cache_dir) / "configs"
    # The scores' own options, where it is clear which these are.
    decoded = [options_of(path) for path in decode_dirs(directory, model_file)]
    options = decoded[0] if decoded and all(one == decoded[0] for one in decoded) else None
    return PretrainedModel(
        train_config=keep_file(dump_conf(resolved), kept, ".yaml"),
        model_file=directory / model_file.name,
        meta=None,
        directory=directory,
        inference_config=options and keep_file(dump_options(options), kept, ".yaml"),
    )


def _packed(directory: Path, cache_dir: Path | None) -> PretrainedModel:
    directory = directory.absolute()
    meta = Meta.read(directory / FILE_NAME)
    check_versions(meta, str(directory))
    files = {**meta.files, **meta.yaml_files}
    paths = {key: directory / value for key, value in files.items()}
    for key, path in paths.items():
        if not path.is_file():
            raise ModelError(
                f"{directory}: {key}: expected {files[key]}, found no such file; unpack or "
                "download the model again"
            )
    check_weights(paths[MODEL_FILE])
    for key in meta.yaml_files:
        check_yaml(paths[key])
    config = paths[TRAIN_CONFIG]
    resolved = packed_conf(config, directory, _NOT_SELF_CONTAINED)
    for _, value in path_options(resolved):
        check_nested(Path(value))
    return PretrainedModel(
        train_config=keep_file(dump_conf(resolved), cache_root(cache_dir) / "configs", ".yaml"),
        model_file=paths[MODEL_FILE],
        meta=meta,
        directory=directory,
        inference_config=paths.get(INFERENCE_CONFIG),
    )


def packed_conf(config: Path, directory: Path, advice: str) -> dict[str, Any]:
    """Configuration of a packed model with absolute paths, once it is known to be harmless.

    Args:
        config: its file.
        directory: of the model.
        advice: as in `check_self_contained`.

    Raises:
        ModelError: if it is no model's, or needs anything but the files in the directory.
    """
    # Nothing but what the model is built from, so that all of it has been checked.
    conf = for_model(read_conf(config))
    check_self_contained(conf, config, advice)
    return resolve(conf, in_package(directory), config)


def _download(tag: str, cache_dir: Path | None) -> Path:
    from espnet_objsoup.zoo.hub import download  # the hub's client takes a second to import

    try:
        return download(tag, cache_dir)
    except ModelError as err:
        raise ModelError(f"{tag}: no such file or directory, and not on the hub: {err}") from err
