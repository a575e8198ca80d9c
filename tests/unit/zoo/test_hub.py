# SPDX-License-Identifier: Apache-2.0
"""Downloads from a hub on this machine: what is fetched, what is refused, what works offline."""

import pickle
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from espnet_objsoup.zoo import hub as hub_module
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.hub import download
from espnet_objsoup.zoo.hub_client import HubError, NoConnectionError, split_tag
from espnet_objsoup.zoo.pretrained import find_model
from tests.unit.zoo.hub_models import BPE, CONFIG, WEIGHTS, model_files, torch_archive
from tests.unit.zoo.hub_settings import CLOSED


def fetched(hub, tag="ada/tiny", cache=None):
    return download(tag, cache, endpoint=hub.url, wait_s=0.0)


def content_of(directory) -> dict[str, bytes]:
    paths = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_files_arrive_as_they_were(hub, cache):
    hub.state.add_repository("ada/tiny", model_files())
    assert content_of(fetched(hub, cache=cache)) == model_files()
    assert all(r.authorization is None for r in hub.state.requests if r.storage)


def test_a_second_download_asks_but_fetches_nothing(hub, cache):
    hub.state.add_repository("ada/tiny", model_files())
    first = fetched(hub, cache=cache)
    hub.state.requests.clear()
    assert fetched(hub, cache=cache) == first
    assert not hub.state.sent("GET .*/(resolve|objects)/")
    assert len(hub.state.requests) < 10


def test_only_expected_kinds_are_fetched(hub, cache):
    others = {
        "setup.py": b"import os",
        "exp/tiny/checkpoint.pth": b"not fetched, so not looked into",
        "pytorch_model.bin": b"x",
        "data/lexicon.pkl": b"x",
        "run.sh": b"rm -rf /",
    }
    hub.state.add_repository("ada/tiny", {**model_files(), **others, "LICENSE": b"mine"})
    assert content_of(fetched(hub, cache=cache)) == {**model_files(), "LICENSE": b"mine"}
    stored = [path.read_bytes() for path in cache.rglob("blobs/*")]
    assert not set(stored) & set(others.values())


def test_private_models_need_the_owners_token(hub, cache, monkeypatch):
    hub.state.add_repository("ada/tiny", model_files(), private=True)
    assert content_of(fetched(hub, cache=cache)) == model_files()
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"none that can be read; if it is private.*hf auth login"):
        fetched(hub, cache=cache / "other")
    hub.state.add_account("hf_bob", "bob")
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    with pytest.raises(HubError, match="none that can be read"):
        fetched(hub, cache=cache / "other")


def test_public_models_need_no_token(hub, cache, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    hub.state.add_repository("ada/tiny", model_files())
    fetched(hub, cache=cache)
    assert {r.authorization for r in hub.state.requests} == {None}


def test_revisions(hub, cache):
    repository = hub.state.add_repository("ada/tiny", model_files())
    old = repository.head.oid
    fetched(hub, cache=cache)
    hub.state.add_repository("ada/tiny")  # emptied
    newer = {path: hub.state.store(path, data) for path, data in model_files(seed=1).items()}
    renewed = hub.state.repositories["ada/tiny"]
    renewed.commits = [*repository.commits]
    renewed.commit("better", newer)
    assert content_of(fetched(hub, cache=cache))[WEIGHTS] == model_files(seed=1)[WEIGHTS]
    assert content_of(fetched(hub, "ada/tiny@main", cache)) == model_files(seed=1)
    assert content_of(fetched(hub, f"ada/tiny@{old}", cache / "empty")) == model_files()
    # A commit never changes: with its files at hand nobody is asked.
    hub.state.requests.clear()
    assert content_of(fetched(hub, f"ada/tiny@{old}", cache)) == model_files()
    assert not hub.state.requests
    with pytest.raises(HubError, match="expected a revision that exists"):
        fetched(hub, "ada/tiny@v9", cache)


def test_a_push_in_between_changes_nothing(hub, cache, monkeypatch):
    """What is fetched is the commit whose names and sizes were looked at."""
    repository = hub.state.add_repository("ada/tiny", model_files())
    looked_at = repository.head.oid
    listed = hub_module._files_of

    def pushed_after(*args):
        found = listed(*args)
        files = {path: hub.state.store(path, data) for path, data in model_files(seed=1).items()}
        others = {f"more/{i}.md": hub.state.store(f"{i}.md", b"x" * 1000) for i in range(20)}
        repository.commit("hostile", {**files, **others})
        return found

    monkeypatch.setattr(hub_module, "_files_of", pushed_after)
    found = fetched(hub, cache=cache)
    assert found.name == looked_at
    assert content_of(found) == model_files()
    monkeypatch.undo()
    assert content_of(download("ada/tiny", cache, endpoint=CLOSED, wait_s=0.0)) == model_files()


class TestWithoutConnection:
    @pytest.fixture(autouse=True)
    def known(self, hub, cache):
        hub.state.add_repository("ada/tiny", model_files())
        fetched(hub, cache=cache)

    def test_the_copy_is_used_and_that_is_said(self, hub, cache, caplog):
        found = download("ada/tiny", cache, endpoint=CLOSED, wait_s=30.0)
        assert content_of(found) == model_files()
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        oid = hub.state.repositories["ada/tiny"].head.oid
        assert f"Using the copy in the cache, commit {oid[:12]}" in record.getMessage()
        assert CLOSED in record.getMessage()

    def test_offline_mode(self, hub, cache, caplog, monkeypatch):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        hub.state.requests.clear()
        assert content_of(fetched(hub, cache=cache)) == model_files()
        assert "HF_HUB_OFFLINE" in caplog.text
        assert not hub.state.requests
        with pytest.raises(NoConnectionError, match="HF_HUB_OFFLINE forbids it"):
            fetched(hub, cache=cache / "empty")

    @pytest.mark.parametrize("status", [503, "cut"])
    def test_a_hub_that_is_down(self, hub, cache, caplog, status):
        hub.state.fail(".", status, times=-1)
        assert content_of(fetched(hub, cache=cache)) == model_files()
        assert "Using the copy" in caplog.text
        with pytest.raises(NoConnectionError):
            fetched(hub, cache=cache / "empty")

    def test_nothing_in_the_cache(self, cache):
        with pytest.raises(NoConnectionError, match="expected a connection to the hub, found none"):
            download("ada/other", cache, endpoint=CLOSED, wait_s=0.0)
        with pytest.raises(NoConnectionError):
            download("ada/tiny@v1", cache, endpoint=CLOSED, wait_s=0.0)

    @pytest.mark.parametrize("name", [WEIGHTS, CONFIG, "data/token_list/bpe/bpe.model"])
    def test_a_part_of_a_copy_is_not_used(self, cache, name):
        (link,) = cache.rglob(f"snapshots/*/{name}")
        link.resolve().unlink()
        link.unlink()
        with pytest.raises(NoConnectionError):
            download("ada/tiny", cache, endpoint=CLOSED, wait_s=0.0)

    def test_a_model_that_is_gone_is_an_error_all_the_same(self, hub, cache):
        del hub.state.repositories["ada/tiny"]
        with pytest.raises(HubError, match="none that can be read"):
            fetched(hub, cache=cache)


@pytest.mark.parametrize("status", [503, "cut", "lost"])
@pytest.mark.parametrize(
    "request_pattern",
    ["GET /api/models/ada/tiny$", "GET .*/tree/", "GET .*/resolve/[0-9a-f]+/meta", "GET /objects/"],
)
def test_one_failure_of_any_request_is_survived(hub, cache, request_pattern, status):
    hub.state.add_repository("ada/tiny", model_files())
    hub.state.fail(request_pattern, status)
    assert content_of(fetched(hub, cache=cache)) == model_files()
    assert hub.state.faults[0].times == 0


def changed(**files) -> dict[str, bytes]:
    return {**model_files(), **files}


def meta_with(**values) -> bytes:
    return yaml.safe_dump({**yaml.safe_load(model_files()["meta.yaml"]), **values}).encode()


REFUSED = {
    "no such model": (None, "expected a model on .*, found none that can be read"),
    "no model at all": ({"README.md": b"# hi"}, r"expected a packed model with meta\.yaml, found"),
    "empty": ({}, r"expected a packed model with meta\.yaml"),
    "another task of ESPnet": (
        changed(**{"meta.yaml": meta_with(yaml_files={"asr_train_config": CONFIG})}),
        "expected objsoup_train_config.*found asr_train_config",
    ),
    "broken meta.yaml": (changed(**{"meta.yaml": b"files: ["}), "expected YAML"),
    "path out of the model": (
        changed(**{"meta.yaml": meta_with(files={"objsoup_model_file": "../../x.pth"})}),
        "expected a path within the model's directory",
    ),
    "a file out of the model": (
        changed(**{"../../evil.txt": b"x"}),
        r"expected a path within the model's directory, found '\.\./\.\./evil\.txt'",
    ),
    "meta.yaml without end": (
        changed(**{"meta.yaml": b"#" * (17 << 20)}),
        r"meta\.yaml: expected at most 16\.78 MB, found 17\.83 MB",
    ),
    "weights are missing": (
        {name: data for name, data in model_files().items() if name != WEIGHTS},
        f"expected {WEIGHTS} in the repository",
    ),
    "a configuration of another kind": (
        changed(**{"meta.yaml": meta_with(yaml_files={"objsoup_train_config": "run.sh"})}),
        "expected run.sh in the repository, of the kinds",
    ),
    "weights that run a program": (
        changed(**{WEIGHTS: torch_archive(b"cposix\nsystem\n(S'true'\ntR.")}),
        r"expected tensors only, found a pickle that would use posix\.system",
    ),
    "weights that are a plain pickle": (
        changed(**{WEIGHTS: pickle.dumps({}, protocol=2)}),
        "expected weights as torch.save writes them",
    ),
    "a later version": (
        changed(**{"meta.yaml": meta_with(objsoup={"format": 1, "version": "99.0.0"})}),
        r"made by espnet_objsoup 99\.0\.0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(hub, cache, case):
    files, expected = REFUSED[case]
    if files is not None:
        hub.state.add_repository("ada/tiny", files)
    with pytest.raises(ModelError, match=expected):
        fetched(hub, cache=cache)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("gb=0.00001", r"expected gb of at most 1e-05, found 5.* KB of files; if you trust it"),
        ("entries=7", r"expected entries of at most 7, found 8 files; .*LIMITS=entries=10"),
    ],
)
def test_a_model_that_is_too_large_is_refused_before_it_is_fetched(
    hub, cache, monkeypatch, limit, expected
):
    monkeypatch.setenv("OBJSOUP_UNPACK_LIMITS", limit)
    hub.state.add_repository("ada/tiny", model_files())
    with pytest.raises(HubError, match=expected):
        fetched(hub, cache=cache)
    assert not hub.state.sent("GET /objects/")


def test_wrong_token(hub, cache, monkeypatch):
    hub.state.add_repository("ada/tiny", model_files())
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_wrong")
    with pytest.raises(HubError, match=r"the hub refuses the token in .*HF_TOKEN") as caught:
        fetched(hub, cache=cache)
    assert "hf_wrong" not in str(caught.value)


def test_a_cache_that_cannot_be_written(hub, tmp_path):
    hub.state.add_repository("ada/tiny", model_files())
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(ModelError, match="file"):
        fetched(hub, cache=tmp_path / "file")


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("ada/tiny", ("ada/tiny", None)),
        ("ada/tiny@v1.0", ("ada/tiny", "v1.0")),
        ("ada/tiny@refs/pr/1", ("ada/tiny", "refs/pr/1")),
    ],
)
def test_tags(tag, expected):
    assert split_tag(tag) == expected


@pytest.mark.parametrize(
    "tag", ["tiny", "ada/tiny@", "ada/tiny@../x", "ada/tiny@a b", "a/b/c", "https://x/y", "@main"]
)
def test_tags_that_are_none(tag):
    with pytest.raises(HubError, match="^model: expected"):
        split_tag(tag)


def test_the_cache_may_move(hub, cache, tmp_path):
    hub.state.add_repository("ada/tiny", model_files())
    fetched(hub, cache=cache)
    shutil.move(cache, tmp_path / "moved")
    found = download("ada/tiny", tmp_path / "moved", endpoint=CLOSED, wait_s=0.0)
    assert content_of(found) == model_files()


def test_find_model_takes_names_of_the_hub(hub, cache):
    hub.state.add_repository("ada/tiny", model_files())
    revision = hub.state.repositories["ada/tiny"].head.oid
    for source in ("ada/tiny", f"ada/tiny@{revision}"):
        model = find_model(source, cache)
        assert model.model_file.read_bytes() == model_files()[WEIGHTS]
        conf = yaml.safe_load(model.train_config.read_text())
        assert Path(conf["bpemodel"]).read_bytes() == model_files()[BPE]
        assert model.meta.facts["hf_repo"] == "ada/tiny"
    with pytest.raises(ModelError, match="ada/none: no such file or directory, and not on the hub"):
        find_model("ada/none", cache)
