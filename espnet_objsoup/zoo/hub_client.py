# SPDX-License-Identifier: Apache-2.0
"""What upload and download share: names of repositories, tries, and the hub's errors in words."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    OIDCError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from espnet_objsoup import __version__
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.hub_token import (
    check_token,
    logs_without_token,
    token_source,
    without_token,
)

TOKEN_PAGE = "https://huggingface.co/settings/tokens"
TRIES = 4
_BUSY = (408, 429, 500, 502, 503, 504)
# Requests that huggingface_hub itself has repeated before it raises.
_REPEATED = re.compile(r"/(preupload|tree|xet-\w+-token)/|\.git/info/lfs/")


class HubError(ModelError):
    """What was expected of the hub, what it did, and what to do."""


class NoConnectionError(HubError):
    """The hub cannot be reached, or does not answer as it should for now."""


def make_api(needs_token: bool = False, endpoint: str | None = None) -> HfApi:
    """The hub's client.

    Args:
        needs_token: every request carries the user's token; otherwise only if there is one.
        endpoint: address of the hub; None: `HF_ENDPOINT`, else the public one.

    Raises:
        ModelError: if there is a token that cannot be one.
    """
    check_token()
    return HfApi(
        endpoint=endpoint,
        token=True if needs_token else None,
        library_name="espnet_objsoup",
        library_version=__version__,
    )


def check_repository(name: str, option: str = "--hf_repo") -> str:
    """A repository's name, `user/name`.

    Raises:
        HubError: if the hub would not have such a name.
    """
    try:
        if name.count("/") != 1:
            raise HFValidationError("one / between the account and the model's name is needed")
        validate_repo_id(name)
    except HFValidationError as err:
        raise HubError(
            f"{option}: expected user/name (letters, digits, '-', '_' and '.', at most 96 "
            f"characters), found {name!r}: {str(err).rstrip('.')}"
        ) from None
    return name


def split_tag(tag: str) -> tuple[str, str | None]:
    """`user/name` or `user/name@revision` as repository and revision (branch, tag or commit).

    Raises:
        HubError: if it is neither.
    """
    name, at, revision = tag.partition("@")
    check_repository(name, "model")
    if (at and not re.fullmatch(r"[\w][\w./-]*", revision)) or ".." in revision:
        raise HubError(
            f"model: expected a branch, tag or commit after @, such as {name}@main, found {tag!r}"
        )
    return name, revision or None


def tried[T](call: Callable[[], T], wait_s: float = 1.0, tries: int = TRIES) -> T:
    """Result of a request, repeated after a lost connection or a busy hub's answer.

    huggingface_hub repeats transfers of files by itself, but not the smaller requests.

    Args:
        call: the request.
        wait_s: before the second try; it doubles each time.
        tries: in all.
    """
    for number in range(1, tries):
        try:
            return call()
        except (httpx2.TransportError, HfHubHTTPError, json.JSONDecodeError) as err:
            if not _may_pass(err):
                raise
            time.sleep(wait_s * 2 ** (number - 1))
    return call()


def _may_pass(err: Exception) -> bool:
    if isinstance(err, json.JSONDecodeError):
        return True  # a page of HTML is how a gateway says that the hub is down
    try:
        url = str(err.request.url)
    except RuntimeError:  # httpx2's way to say that there is none
        url = ""
    if _REPEATED.search(url):
        return False
    return not isinstance(err, HfHubHTTPError) or err.response.status_code in _BUSY


@contextmanager
def explained(repository: str, api: HfApi) -> Iterator[None]:
    """Turn errors of the hub and its client into `HubError`, without the token.

    Args:
        repository: that the requests are about.
        api: that makes them.

    Raises:
        HubError: what was expected, found, and what to do.
    """
    try:
        with logs_without_token():
            yield
    except ModelError:
        raise
    except Exception as err:
        found = _explain(err, repository, api.endpoint)
        if found is None:
            raise
        # Not `from err`: the hub's own words, which a traceback would show, may hold the token.
        raise type(found)(without_token(str(found))) from None


def _explain(err: Exception, repository: str, endpoint: str) -> HubError | None:
    if isinstance(err, RuntimeError | LocalEntryNotFoundError) and err.__cause__ is not None:
        err = err.__cause__  # of huggingface_hub's "Error while uploading", "Cannot find"
    if isinstance(err, LocalTokenNotFoundError):
        return HubError(
            "expected a token of the Hugging Face hub, found none; run 'hf auth login', or set "
            f"HF_TOKEN, with a token that may write ({TOKEN_PAGE})"
        )
    if isinstance(err, OfflineModeIsEnabled):
        return NoConnectionError(
            f"{endpoint}: expected a connection, but HF_HUB_OFFLINE forbids it; unset it"
        )
    if isinstance(err, HfHubHTTPError):
        return _explain_answer(err, repository, endpoint)
    # hf_xet calls an answer that it does not like a lost connection.
    answer = re.search(r"HTTP status \w+ error \(((\d{3})[^)]*)\)", str(err))
    if answer and not isinstance(err, httpx2.HTTPError):
        if int(answer[2]) in _BUSY:
            return _busy(endpoint, answer[1])
        return HubError(
            f"{repository}: the hub refuses to hand over large files ({answer[1]}); check that the "
            f"token in {token_source()} has the permission, and run again"
        )
    lost = (httpx2.TransportError, ConnectionError, TimeoutError, LocalEntryNotFoundError)
    if isinstance(err, lost):
        return NoConnectionError(
            f"{endpoint}: expected a connection to the hub, found none ({_line(err)}); check the "
            "network, HTTPS_PROXY and HF_ENDPOINT"
        )
    if isinstance(err, json.JSONDecodeError):
        return NoConnectionError(
            f"{endpoint}: expected an answer of the hub, found something else; if HF_ENDPOINT is "
            "set, check it, else try again later"
        )
    if isinstance(err, OSError | ValueError | RuntimeError | OIDCError):  # of hf_xet, too
        return HubError(f"{repository}: {_line(err) or type(err).__name__}")
    return None


def _explain_answer(err: HfHubHTTPError, repository: str, endpoint: str) -> HubError:
    status = err.response.status_code
    said = _line(err.server_message or err)
    if isinstance(err, GatedRepoError):
        return HubError(
            f"{repository}: its owner gives access to those who ask for it; ask at "
            f"{endpoint}/{repository} and log in by 'hf auth login'"
        )
    if isinstance(err, RevisionNotFoundError):
        return HubError(f"{repository}: expected a revision that exists, found none of that name")
    if status == 401 and "credentials" in said:
        return HubError(
            f"the hub refuses the token in {token_source()} (401); make a new one at {TOKEN_PAGE}, "
            "or run 'hf auth login --force'"
        )
    if isinstance(err, RepositoryNotFoundError):
        return HubError(
            f"{repository}: expected a model on {endpoint}, found none that can be read; if it is "
            "private, run 'hf auth login' with a token that may read it, else correct the name"
        )
    if status == 403:
        return HubError(
            f"{repository}: no permission (403: {said}); expected a token with write access to "
            f"{repository.split('/')[0]} ({TOKEN_PAGE}), found that of {token_source()}"
        )
    if status == 412:
        return HubError(
            f"{repository}: somebody else has changed it during the upload (412); run again"
        )
    if status in _BUSY:
        return _busy(endpoint, f"{status}: {said}")
    return HubError(f"{repository}: the hub answers {status}: {said}")


def _busy(endpoint: str, said: str) -> NoConnectionError:
    return NoConnectionError(
        f"{endpoint}: expected an answer of the hub, found again and again: {said}; run again "
        "later, what has arrived is not sent again"
    )


def _line(err: object) -> str:
    return " ".join(str(err).split())[:300]
