# SPDX-License-Identifier: Apache-2.0
"""A good archive; a hub of its own for each test, and huggingface_hub's client set up for it."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from tests.unit.zoo.hub_server import HubServer, running_hub
from tests.unit.zoo.hub_settings import TOKEN
from tests.unit.zoo.packages import package, save_weights


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Entries of an archive that is fine."""
    return package(save_weights(tmp_path_factory.mktemp("weights") / "model.pth").read_bytes())


@pytest.fixture
def hub(monkeypatch, tmp_path_factory) -> Iterator[HubServer]:
    """The hub, where ada's token may write to ada/..., and is in the environment."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    # Git LFS's protocol, of which the hub sees every request; tests of Xet start a process.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    # The client waits up to 8 s between its tries.
    monkeypatch.setattr(
        "huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None)
    )
    with running_hub() as server:
        server.state.add_account(TOKEN, "ada")
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
