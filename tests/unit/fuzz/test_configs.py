# SPDX-License-Identifier: Apache-2.0
"""Configurations: of training, of the soup, of decoding, of clusters; names of objectives."""

import re
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from espnet_objsoup.bin import check_config
from espnet_objsoup.bin.check_config import read_yaml, statistics_options
from espnet_objsoup.data.cluster import ClusterError, read_cluster
from espnet_objsoup.decoding.options import (
    DecodeOptions,
    InferenceError,
    SearchOptions,
    read_train_config,
)
from espnet_objsoup.objectives import SoupConf, check_trainer_conf
from espnet_objsoup.objectives.layers_conf import LayerError, LayersConf
from espnet_objsoup.objectives.spec import ObjectiveError, ObjectiveSpec, match
from espnet_objsoup.objectives.weighting_table import WEIGHTINGS

from . import contents, damaged, directory, fuzz, mappings, outcome, texts, values

yaml_files = st.one_of(
    contents,
    values.map(lambda value: yaml.safe_dump(value, allow_unicode=True).encode()),
    damaged(b"trainer: objsoup\ntrainer_conf:\n  recipe: bilevel\n  levels: [{a: *x}]\n"),
    st.sampled_from(
        [
            b"a: " + b"[" * 1100,
            b"a: &a [*a]\n",
            b"2001-99-99",
            b"a: 1e999999999\n",
            b"? [1]\n: 2\n",
            b"a: " + b"9" * 5000,
            b"!!python/object/apply:os.mkdir [x]\n",
            b"<<: 1\n",
            b"a: !!bool x\n",
            b"a: !!timestamp x\n",
            b"a: !!int ''\n",
            b"a: =\n",
            b"a: 1:99:99\n",
        ]
    ),
)


@fuzz(1.5)
@given(yaml_files)
def test_yaml(content: bytes) -> None:
    """Every reader of YAML: a mapping, or an error that names the file."""
    with directory() as folder:
        path = folder / "conf.yaml"
        path.write_bytes(content)
        place = re.escape(str(path))
        for read in (read_yaml, read_train_config):
            assert isinstance(outcome(lambda read=read: read(path), ValueError, place), dict | None)
        outcome(lambda: DecodeOptions.from_yaml(path), InferenceError, place)
        outcome(lambda: read_cluster(path), ClusterError, place)
        assert not (folder / "x").exists()


numbers = st.one_of(st.integers(-2, 20), st.floats(), st.floats(0, 1))
searches = {
    "beam_size": st.integers(0, 20),
    "normalize_length": st.booleans(),
    **dict.fromkeys(
        "ctc_weight st_ctc_weight length_bonus st_length_bonus maxlenratio minlenratio".split(),
        numbers,
    ),
}


@example({"st_ctc_weight": None})
@fuzz()
@given(mappings({**searches, "nbest": st.integers(0, 5), "ctc_greedy": st.booleans()}))
def test_options_of_decoding(conf: dict[Any, Any]) -> None:
    with directory() as folder:
        path = folder / "decode.yaml"
        path.write_text(yaml.safe_dump(conf, allow_unicode=True), encoding="utf-8")
        options = outcome(
            lambda: DecodeOptions.from_yaml(path), InferenceError, re.escape(str(path))
        )
        if options is not None:
            assert 1 <= options.nbest <= options.search.beam_size
            assert 0 <= options.search.st_ctc_weight <= 1
            assert all(value == value for value in vars(options.search).values())
            search = {key: value for key, value in conf.items() if key in searches}
            assert SearchOptions.from_dict(search) == options.search


globs = st.sampled_from(["*", "asr/*", "st/*", "*/fr*", "asr/de", "ssl", "x", "[", "asr/[!f]*"])
weightings = st.sampled_from([*WEIGHTINGS, "MODO", ""])
penalties = st.sampled_from(["linear", "constant", "barrier", "none", ""])
general = {
    "weighting": weightings,
    "weighting_conf": mappings({"gamma": numbers, "weights": mappings({"asr/*": numbers})}),
    "penalty": penalties,
    "penalty_conf": mappings({"step": numbers, "max": numbers, "start": numbers, "init": numbers}),
}
layers = mappings(
    {
        "pattern": st.one_of(globs, st.lists(globs, max_size=2)),
        "policy": st.sampled_from(["conflict", "last_k", "all", "fixed"]),
        "threshold": st.floats(-1.5, 1.5),
        "names": st.lists(texts, max_size=2),
        "scope": st.sampled_from(["all", "selected"]),
        **dict.fromkeys(("top_k", "last_k", "scan_steps", "scan_interval"), st.integers(-1, 9)),
    }
)
soups = mappings(
    {
        "recipe": st.sampled_from(["static", "flat", "constrained", "bilevel", "multilevel"]),
        "order": st.sampled_from(["as", "sa", "uas", "usa"]),
        "levels": st.lists(mappings({"objectives": st.lists(globs, max_size=3), **general}),
                           max_size=3),
        **general,
        "gradient_engine": st.sampled_from(["grouped", "reference"]),
        "estimate": st.sampled_from(["unbiased", "batch"]),
        "weights_interval": st.integers(0, 9),
        "layers": layers,
        "monitor": st.booleans(),
        "reset_soup": st.booleans(),
        "max_nonfinite_steps": st.integers(-1, 9),
    }
)  # fmt: skip
OBJECTIVES = ["asr/de", "asr/en", "asr/fr", "st/de-en", "st/fr-en"]


@example({"layers": {"policy": "fixed", "names": None}}, OBJECTIVES)  # found by longer runs
@example({"weighting_conf": {"weights": {None: 0}}}, OBJECTIVES)
@example({"weighting_conf": {"weights": {"asr/*": 10**400}}}, OBJECTIVES)
@example({"recipe": "flat", "weighting_conf": {"gamma": 10**400}}, OBJECTIVES)
@fuzz(0.5)
@given(soups, st.sampled_from([OBJECTIVES, [*OBJECTIVES, "ssl"], OBJECTIVES[:1], ["ssl"]]))
def test_trainer_conf(conf: dict[Any, Any], objectives: list[str]) -> None:
    """The message names a key of `trainer_conf`, or the objective that has no place."""
    parsed = outcome(lambda: SoupConf.from_dict(conf), ValueError, "^trainer_conf")
    checked = outcome(lambda: [check_trainer_conf("objsoup", conf)], ValueError, "^trainer_conf")
    assert (parsed is None) == (checked is None)
    if parsed is not None:
        found = outcome(
            lambda: parsed.resolve(objectives), ValueError, "^trainer_conf|objective|asr/|st/|ssl"
        )
        if found is not None:
            members = [name for level in found for name in level.objectives]
            assert sorted(members) == sorted(objectives)


@fuzz()
@given(layers | values)
def test_layers(conf: Any) -> None:
    parsed = outcome(lambda: LayersConf.from_dict(conf), LayerError, r"^trainer_conf\.layers")
    assert parsed is None or -1 <= parsed.threshold <= 1


@fuzz()
@given(texts | st.from_regex(r"(asr|st|ssl|mt)/?[a-z]{0,3}-?[a-z]{0,3}", fullmatch=True))
def test_name_of_an_objective(name: str) -> None:
    spec = outcome(lambda: ObjectiveSpec.parse(name), ObjectiveError, "^objective: expected")
    assert spec is None or str(spec) == name


@fuzz()
@given(texts | globs)
def test_glob_over_objectives(glob: str) -> None:
    found = outcome(lambda: match(glob, OBJECTIVES, "a.key"), ObjectiveError, "^a.key")
    assert found is None or set(found) <= set(OBJECTIVES)


systems = {
    "system": st.sampled_from(["slurm", "pbs", "sge", "lsf"]),
    "cores": st.integers(0, 9),
    "processes": st.integers(0, 9),
    "memory": st.sampled_from(["8GB", "8", "1 kib", "GB", "-1GB", "8GB; x"]),
    "walltime": st.sampled_from(["1:00", 3600]),
    "queue": texts,
    "job_extra_directives": st.lists(texts, max_size=2),
    "tls": st.booleans(),
}


@fuzz()
@given(mappings(systems))
def test_cluster(conf: dict[Any, Any]) -> None:
    with directory() as folder:
        path = folder / "cluster.yaml"
        path.write_text(yaml.safe_dump(conf, allow_unicode=True), encoding="utf-8")
        found = outcome(lambda: read_cluster(path), ClusterError, re.escape(str(path)))
        assert found is None or found.threads >= 1


words = st.lists(
    st.one_of(texts, st.sampled_from(["--max_epoch", "5", "--a=b", "--frontend_conf", "fs=8k"])),
    max_size=5,
).map(" ".join)


@fuzz()
@given(mappings({"frontend_conf": values, "model_conf": values, "encoder": texts}), words)
def test_what_statistics_depend_on(conf: dict[str, Any], arguments: str) -> None:
    options = outcome(lambda: statistics_options(conf, arguments), ValueError, "train_args")
    assert options is None or "encoder" not in options


@fuzz(3)
@given(yaml_files | mappings({"frontend_conf": values}).map(lambda c: yaml.safe_dump(c).encode()))
def test_check_of_configurations(content: bytes) -> None:
    """The command itself: a checksum, or 1 and a line."""
    out, err = StringIO(), StringIO()
    with directory() as folder, redirect_stdout(out), redirect_stderr(err):
        path = folder / "conf.yaml"
        path.write_bytes(content)
        status = check_config.main(["--config", str(path)])
        assert status in (0, 1)
        expected = (r"[0-9a-f]{64}\n", "") if status == 0 else ("", rf"error: {path}.*")
        assert re.fullmatch(expected[0], out.getvalue())
        assert re.fullmatch(expected[1], err.getvalue(), re.DOTALL)
