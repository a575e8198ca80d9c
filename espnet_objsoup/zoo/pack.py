# SPDX-License-Identifier: Apache-2.0
"""Pack an experiment: all that decoding takes, what is known of it, and nothing else."""

import logging
import os
import platform
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import espnet_objsoup
from espnet_objsoup.decoding.options import DecodeOptions, InferenceError, read_mapping
from espnet_objsoup.inference.lengths import TRAINED_LENGTH, noted_length
from espnet_objsoup.inference.segmentation import DEFAULT_MAX_SEGMENT_S
from espnet_objsoup.zoo.archive import Limits, unpack
from espnet_objsoup.zoo.card import Card, render_card
from espnet_objsoup.zoo.config import dump_conf, for_model, read_conf
from espnet_objsoup.zoo.decoding import decode_dirs, dump_options, options_of
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.facts import ModelFacts, facts_of_experiment, read_scores
from espnet_objsoup.zoo.meta import (
    FILE_NAME,
    FORMAT,
    INFERENCE_CONFIG,
    MODEL_FILE,
    TRAIN_CONFIG,
    Meta,
)
from espnet_objsoup.zoo.pretrained import default_weights, packed_conf
from espnet_objsoup.zoo.privacy import check_public, public_results
from espnet_objsoup.zoo.resolve import Find, in_experiment, map_paths, resolve
from espnet_objsoup.zoo.self_contained import check_self_contained
from espnet_objsoup.zoo.versions import install_command, package_version
from espnet_objsoup.zoo.weights import prepare_weights
from espnet_objsoup.zoo.writer import Content, archive_time, write_archive

CARD = "README.md"
_NOT_SELF_CONTAINED = (
    "a packed model can only be loaded safely without it. Use the experiment itself "
    "(--model exp/<tag>), or train with another component"
)
_IMAGES = {".png", ".jpg", ".jpeg", ".svg"}
_DECODED = re.compile(r"^Model `(?P<model>[^`]+)`, decoded as `(?P<decoding>[^`]+)`\.$", re.M)


@dataclass(frozen=True)
class PackRequest:
    """What is packed, and what the experiment itself does not say.

    Attributes:
        experiment: `exp/<tag>`.
        target: the archive; None: `exp/<tag>.zip`.
        model_file: weights in the experiment; None: `valid.loss.ave.pth`.
        inference_config: options of the search where stage 12 has not noted any.
        license, corpus, datasets, recipe: see `ModelFacts`.
        hf_repo: `user/name`, for the card's example.
        install: command that installs this package; None: by its version.
        trust_weights: see `prepare_weights`.
    """

    experiment: Path
    target: Path | None = None
    model_file: Path | None = None
    inference_config: Path | None = None
    license: str | None = None
    corpus: str | None = None
    datasets: list[str] = field(default_factory=list)
    recipe: str | None = None
    hf_repo: str | None = None
    install: str | None = None
    trust_weights: bool = False


def default_install() -> str:
    """Command that installs this version."""
    return install_command(espnet_objsoup.__version__)


def pack(request: PackRequest) -> Path:
    """Write a model's archive and check it by unpacking it.

    Returns:
        The archive.

    Raises:
        ModelError: if something is missing that decoding takes, or must not be published.
    """
    experiment = request.experiment
    conf = read_conf(experiment / "config.yaml")
    weights = (request.model_file or default_weights(experiment)).resolve()
    prepared, parameters = prepare_weights(weights, request.trust_weights)
    facts = facts_of_experiment(
        experiment,
        conf,
        parameters=parameters,
        recipe=request.recipe or None,
        corpus=request.corpus or None,
        datasets=list(request.datasets),
        license=request.license or None,
    )
    if not (facts.corpus or facts.recipe):
        logging.warning(
            "%s: neither --corpus nor --recipe is given: the card and the ESPnet model zoo's table "
            "will not say what the model was trained on",
            experiment,
        )
    base = f"exp/{facts.name}"
    contents: dict[str, Content] = {f"{base}/{weights.name}": prepared}
    contents |= _configuration(conf, in_experiment(experiment, conf), base)
    results, decode_dir = _results(experiment, weights, request.model_file)
    contents |= {f"{base}/{name}": content for name, content in results.items()}
    options = _decoding(request, weights, decode_dir)
    if options is not None:
        contents[f"{base}/decode.yaml"] = dump_options(options)
    contents |= _images(experiment, base)
    target = request.target or Path(os.path.abspath(experiment)).with_name(f"{facts.name}.zip")
    meta = _meta(request, facts, weights, base, options is not None)
    scores = read_scores(experiment / "scores.json") if "scores.json" in results else {}
    card = Card(facts, meta, request.hf_repo or None, target.name, scores, options, base)
    contents[CARD] = render_card(card)
    contents[FILE_NAME] = meta.dump()
    check_public(contents, experiment)
    _write_checked(target, contents, int(meta.timestamp))
    return target


def _configuration(conf: Mapping[str, Any], find: Find, base: str) -> dict[str, Content]:
    """`config.yaml` with paths within the archive, and the files that they name."""
    files: dict[str, Content] = {}

    def take(key: str, value: str) -> str:
        path = find(value)
        if path is None:
            return value  # a word: files have been looked for
        name = f"{base}/{path.name}"
        if key == "bpemodel":
            name = f"data/token_list/{path.parent.name}/{path.name}"
        files[name] = path
        return name

    kept = for_model(conf)
    if isinstance(kept.get("token_list"), str):
        found = find(kept["token_list"])
        if found is not None:
            lines = found.read_text(encoding="utf-8").split("\n")
            kept["token_list"] = lines if lines[-1] else lines[:-1]
    config = Path("config.yaml")
    check_self_contained(kept, config, _NOT_SELF_CONTAINED)
    # All needed files are there: the message names what is missing and its remedy.
    resolve(kept, find, config)
    packed = {**map_paths(kept, take), **_length(conf, find)}
    return {**files, f"{base}/config.yaml": dump_conf(packed)}


def _length(conf: Mapping[str, Any], find: Find) -> dict[str, Any]:
    """How long the training utterances were, for the packed configuration."""
    noted = noted_length(conf, find)
    if not noted:
        shapes = conf.get("train_shape_file") or ["exp/<stats>/train/speech_shape"]
        logging.warning(
            "how long the training utterances were is not known, so that users' long audio is cut "
            "at %g s, whether the model can take that or not: expected %s (stage 10) beside the "
            "experiment, or `%s: [usual, longest]` in its config.yaml",
            *(DEFAULT_MAX_SEGMENT_S, shapes[0] if isinstance(shapes, list) else shapes),
            TRAINED_LENGTH,
        )
    return noted


def _results(
    experiment: Path, weights: Path, named: Path | None
) -> tuple[dict[str, Content], Path | None]:
    """RESULTS.md and scores.json, and the directory of the hypotheses that were scored.

    Raises:
        ModelError: if they are of other weights.
    """
    path = experiment / "RESULTS.md"
    if not path.is_file():
        logging.warning("%s: not scored (stage 13): the card will have no scores", experiment)
        return {}, None
    results = path.read_text(encoding="utf-8")
    found = _DECODED.search(results)
    if found is None:
        raise ModelError(f"{path}: expected the results of stage 13, found others; score again")
    if (experiment / found["model"]).resolve() != weights:
        raise ModelError(
            f"{path}: expected the scores of {(named or weights).name}, found those of "
            f"{found['model']}; decode and score with --inference_model {(named or weights).name} "
            "(stages 12 and 13), or pack the weights that were scored"
        )
    contents: dict[str, Content] = {"RESULTS.md": public_results(results).encode()}
    if (experiment / "scores.json").is_file():
        contents["scores.json"] = experiment / "scores.json"
    return contents, experiment / found["decoding"]


def _decoding(
    request: PackRequest, weights: Path, decode_dir: Path | None
) -> dict[str, Any] | None:
    """Options that the scores were made with; where nothing was decoded, those of the YAML."""
    directories = [decode_dir] if decode_dir else decode_dirs(request.experiment, weights)
    noted = [options for options in map(options_of, directories) if options is not None]
    if noted and all(options == noted[0] for options in noted):
        return noted[0]
    if request.inference_config is None:
        return None
    try:
        DecodeOptions.from_yaml(request.inference_config)
        return read_mapping(request.inference_config)
    except InferenceError as err:
        raise ModelError(str(err)) from err


def _images(experiment: Path, base: str) -> dict[str, Content]:
    directory = experiment / "images"
    return {
        f"{base}/images/{path.relative_to(directory).as_posix()}": path
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.suffix.lower() in _IMAGES
    }


def _meta(
    request: PackRequest, facts: ModelFacts, weights: Path, base: str, has_options: bool
) -> Meta:
    yaml_files = {TRAIN_CONFIG: f"{base}/config.yaml"}
    if has_options:
        yaml_files[INFERENCE_CONFIG] = f"{base}/decode.yaml"
    own = {
        "format": FORMAT,
        "version": espnet_objsoup.__version__,
        "install": request.install or default_install(),
        "hf_repo": request.hf_repo or None,
    }
    return Meta(
        files={MODEL_FILE: f"{base}/{weights.name}"},
        yaml_files=yaml_files,
        timestamp=archive_time(weights),
        python=platform.python_version(),
        torch=package_version("torch"),
        espnet=package_version("espnet"),
        facts={**own, **facts.as_dict()},
    )


def _write_checked(target: Path, contents: Mapping[str, Content], timestamp: int) -> None:
    """Give the archive its name once it has been unpacked as a reader would."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as directory:
        written = Path(directory) / target.name
        write_archive(written, contents, timestamp)
        # A large model is no attack here.
        limits = replace(Limits(), gb=float("inf"), entries=float("inf"))
        unpacked = Path(directory) / "unpacked"
        meta = unpack(written, unpacked, limits)
        packed_conf(unpacked / meta.yaml_files[TRAIN_CONFIG], unpacked, _NOT_SELF_CONTAINED)
        written.replace(target)
