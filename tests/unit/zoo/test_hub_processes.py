# SPDX-License-Identifier: Apache-2.0
"""Upload and download in processes of their own: settings of the environment only, as users have.

Here large files go through Xet, which is huggingface_hub's default, and ESPnet's downloader is
pointed to the hub. Everything that is printed, logged or written is searched for the token.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import hf_xet
import pytest
import yaml

from espnet_objsoup.zoo.hub import download
from tests.unit.zoo.hub_models import (
    BPE,
    CONFIG,
    LARGE,
    STATISTICS,
    WEIGHTS,
    model_files,
    write_zip,
)
from tests.unit.zoo.hub_server import running_hub
from tests.unit.zoo.hub_settings import TOKEN

# The command with every logger of Python at its most talkative.
UPLOAD = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
from espnet_objsoup.bin.upload import main
sys.exit(main(sys.argv[1:]))
"""
DOWNLOAD = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
from espnet_objsoup.zoo.hub import download
print(download(sys.argv[1]))
"""
# By name; and by what the table says of a model, with our line in the table.
ESPNET = """
import json, sys
import pandas
from espnet_model_zoo.downloader import ModelDownloader
_, name, directory, table = sys.argv
downloader = ModelDownloader(directory)
by_name = downloader.download_and_unpack(name)
assert not downloader.query(task="objsoup")
own = pandas.read_csv(table, dtype=str)
assert list(own) == list(downloader.data_frame)
downloader.data_frame = pandas.concat([downloader.data_frame, own])
assert downloader.query(task="objsoup", lang="multilingual", fs="16000") == [name]
assert downloader.download_and_unpack(task="objsoup", corpus="mini") == by_name
print(json.dumps(by_name))
"""


class Home:
    """A user's home directory, and processes that know no other."""

    def __init__(self, root: Path, endpoint: str, **variables: str) -> None:
        self.root = root
        kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
        self.environment = {
            **kept,
            "HOME": str(root),
            "HF_ENDPOINT": endpoint,
            "HF_TOKEN": TOKEN,
            "HF_DEBUG": "1",
            "RUST_LOG": "debug",
            "PYTHONPATH": str(Path(__file__).parents[3]),
            **variables,
        }

    def run(self, script: str, *words: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", script, *map(str, words)]
        return subprocess.run(
            command,
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def written(self) -> dict[str, bytes]:
        paths = [path for path in self.root.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.root)): path.read_bytes() for path in paths}


def assert_no_token(home: Home, done: subprocess.CompletedProcess) -> None:
    assert TOKEN not in done.stdout
    assert TOKEN not in done.stderr
    assert not [name for name, content in home.written().items() if TOKEN.encode() in content]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A model that the command has sent through Xet: the hub, the home, the process."""
    with running_hub(xet_store=tmp_path_factory.mktemp("xet")) as hub:
        hub.state.add_account(TOKEN, "ada")
        home = Home(tmp_path_factory.mktemp("home"), hub.url)
        packed = write_zip(home.root / "exp" / "tiny.zip", model_files())
        options = ("--packed", packed, "--hf_repo", "ada/tiny", "--hf_upload", "true")
        done = home.run(UPLOAD, *options)
        # Which the hub would learn from its store.
        for number, name in enumerate(LARGE):
            path = tmp_path_factory.mktemp("large") / str(number)
            path.write_bytes(model_files()[name])
            hub.state.xet_hashes[sha256(name)] = hf_xet.hash_files([str(path)])[0].hash
        yield hub, home, done


def sha256(name: str) -> str:
    return hashlib.sha256(model_files()[name]).hexdigest()


def test_upload_through_xet(published):
    hub, _, done = published
    assert done.returncode == 0, done.stderr
    files = hub.state.repositories["ada/tiny"].head.files
    assert files.keys() == {*model_files(), ".gitattributes"}
    assert {name for name, file in files.items() if file.content is None} == set(LARGE)
    assert all(files[name].lfs_sha256 == sha256(name) for name in LARGE)
    assert hub.state.sent("GET .*/xet-write-token/")
    assert not hub.state.sent("POST .*/objects/batch")


def test_the_token_is_nowhere(published):
    _, home, done = published
    assert "authorization: <TOKEN>" in done.stderr  # so requests were logged
    assert any("xet" in name and name.endswith(".log") for name in home.written())
    assert_no_token(home, done)


def test_download_through_xet(published, tmp_path):
    hub, _, _ = published
    home = Home(tmp_path, hub.url)
    done = home.run(DOWNLOAD, "ada/tiny")
    assert done.returncode == 0, done.stderr
    directory = Path(done.stdout.splitlines()[-1])
    assert directory.is_relative_to(tmp_path / ".cache" / "huggingface" / "hub")
    for name, content in model_files().items():
        assert (directory / name).read_bytes() == content
    assert not hub.state.sent("GET /objects/")
    assert_no_token(home, done)


def test_espnets_downloader_gets_the_model_from_the_hub(published, tmp_path):
    hub, publisher, _ = published
    home = Home(tmp_path, hub.url, HF_DEBUG="0")
    table = publisher.root / "exp" / "tiny.table.csv"
    done = home.run(ESPNET, "ada/tiny", tmp_path / "zoo", table)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == {"objsoup_train_config", "objsoup_model_file"}
    weights = Path(found["objsoup_model_file"])
    assert weights.is_relative_to(tmp_path)
    assert weights.read_bytes() == model_files()[WEIGHTS]
    conf = yaml.safe_load(Path(found["objsoup_train_config"]).read_text())
    assert conf.keys() == yaml.safe_load(model_files()[CONFIG]).keys()
    assert Path(conf["bpemodel"]).read_bytes() == model_files()[BPE]
    statistics = Path(conf["normalize_conf"]["stats_file"])
    assert statistics.read_bytes() == model_files()[STATISTICS]
    # Its notes in the copy do no harm: the same directory serves both.
    assert download("ada/tiny", tmp_path / "zoo", endpoint=hub.url) == weights.parents[2]


def test_what_xet_has_is_not_sent_again(tmp_path):
    with running_hub(xet_store=tmp_path / "xet") as hub:
        hub.state.add_account(TOKEN, "ada")
        hub.state.fail("POST /api/models/.*/commit/", 400)
        home = Home(tmp_path / "home", hub.url)
        home.root.mkdir()
        packed = write_zip(home.root / "tiny.zip", model_files())
        options = ("--packed", packed, "--hf_repo", "ada/tiny", "--hf_upload", "true")
        assert home.run(UPLOAD, *options).returncode == 1
        assert len(hub.state.repositories["ada/tiny"].commits) == 1
        blocks = sorted(tmp_path.glob("xet/**/xorbs/default.*"))
        assert blocks
        assert home.run(UPLOAD, *options).returncode == 0
        assert len(hub.state.repositories["ada/tiny"].commits) == 2
        assert sorted(tmp_path.glob("xet/**/xorbs/default.*")) == blocks


@pytest.mark.parametrize(
    ("disable_xet", "request_pattern", "expected"),
    [
        ("0", "GET .*/xet-write-token/", r"the hub refuses to hand over large files \(403 "),
        ("1", "PUT /objects/", r"no permission \(403: bad header: Bearer <token>\)"),
    ],
)
def test_errors_of_a_process_hold_no_token(tmp_path, disable_xet, request_pattern, expected):
    with running_hub(xet_store=tmp_path / "xet") as hub:
        hub.state.add_account(TOKEN, "ada")
        hub.state.fail(request_pattern, 403, times=-1, message=f"bad header: Bearer {TOKEN}")
        home = Home(tmp_path / "home", hub.url, HF_HUB_DISABLE_XET=disable_xet)
        home.root.mkdir()
        packed = write_zip(home.root / "tiny.zip", model_files())
        done = home.run(UPLOAD, "--packed", packed, "--hf_repo", "ada/tiny", "--hf_upload", "true")
        assert done.returncode == 1
        (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert re.search(expected, error)
        assert_no_token(home, done)
        assert len(hub.state.repositories["ada/tiny"].commits) == 1
