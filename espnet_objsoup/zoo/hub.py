# SPDX-License-Identifier: Apache-2.0
"""Get a model from the Hugging Face hub: `user/name`, or `user/name@revision`.

Only files of the kinds that models of this package have are fetched, and of those that programs
unpickle only the weights, which are looked into before anything loads them.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.constants import DEFAULT_REVISION
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import filter_repo_objects
from humanfriendly import format_size

from espnet_objsoup.data.files import write_bytes
from espnet_objsoup.zoo.archive import Limits
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.hub_client import (
    TRIES,
    HubError,
    NoConnectionError,
    explained,
    make_api,
    split_tag,
    tried,
)
from espnet_objsoup.zoo.meta import FILE_NAME, MODEL_FILE, Meta, check_relative
from espnet_objsoup.zoo.pickles import check_weights
from espnet_objsoup.zoo.safe_yaml import MAX_BYTES
from espnet_objsoup.zoo.versions import check_versions

# Configurations, BPE models, statistics (arrays only), texts and pictures.
KINDS = (
    ".yaml", ".yml", ".model", ".npz", ".txt", ".md", ".json", ".csv", ".png", ".svg", ".jpg",
    ".jpeg",
)  # fmt: skip
_TIMEOUT_S = 10.0
_COMMIT = re.compile(r"[0-9a-f]{40}")


def download(
    tag: str, cache_dir: Path | None = None, endpoint: str | None = None, wait_s: float = 1.0
) -> Path:
    """Directory of a model's files, fetched if they are not there or have changed.

    Without a connection a copy that was fetched before is used, with a warning. A commit that is
    complete in the cache is used without asking the hub.

    Args:
        tag: `user/name`, or `user/name@revision` with a branch, tag or commit.
        cache_dir: where copies are kept, in huggingface_hub's layout; None: its own cache
            (`$HF_HUB_CACHE`, else `~/.cache/huggingface/hub`).
        endpoint: address of the hub; None: `HF_ENDPOINT`, else the public one.
        wait_s: before a lost or refused request is tried again; it doubles each time.

    Raises:
        ModelError: if there is no such model or no connection, or it is not a model of this
            package that this version can read.
    """
    repository, revision = split_tag(tag)
    found = _cached(repository, revision, cache_dir)
    if found is None or not _COMMIT.fullmatch(revision or ""):
        api = make_api(endpoint=endpoint)
        # With a copy at hand a hub that does not answer need not be waited for.
        tries = 1 if found else TRIES
        try:
            with explained(repository, api):
                commit, files = _files_of(api, repository, revision, tries, wait_s)
                found = tried(
                    lambda: _fetch(api, repository, commit, files, cache_dir), wait_s, tries
                )
            _remember(found, revision or DEFAULT_REVISION, commit)
        except NoConnectionError as err:
            if found is None:
                raise
            logging.warning(
                "%s: %s. Using the copy in the cache, commit %s; there may be a newer one",
                *(tag, str(err).rstrip("."), found.name[:12]),
            )
    meta = Meta.read(found / FILE_NAME)
    check_versions(meta, tag)
    check_weights(found / meta.files[MODEL_FILE])
    return found


def _cached(repository: str, revision: str | None, cache_dir: Path | None) -> Path | None:
    """The complete copy of a revision in the cache, as of when it was last asked for.

    Its weights were looked into when it was fetched; they are again.
    """

    def snapshot(patterns: Sequence[str]) -> Path:
        found = snapshot_download(
            repository,
            revision=revision,
            cache_dir=cache_dir,
            allow_patterns=list(patterns),
            local_files_only=True,
        )
        return Path(found)

    try:
        meta = Meta.read(snapshot([FILE_NAME]) / FILE_NAME)
        found = snapshot(_patterns(meta))
    except (LocalEntryNotFoundError, ModelError):
        return None
    return found if not _missing(found, meta) else None


def _files_of(
    api: HfApi, repository: str, revision: str | None, tries: int, wait_s: float
) -> tuple[str, dict[str, RepoFile]]:
    """The commit of a revision, and its files by their paths."""
    info = tried(
        lambda: api.model_info(repository, revision=revision, timeout=_TIMEOUT_S), wait_s, tries
    )
    tree = api.list_repo_tree(repository, recursive=True, revision=info.sha)
    files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    if FILE_NAME not in files:
        names = ", ".join(sorted(files)[:5]) + (", ..." if len(files) > 5 else "")
        raise HubError(
            f"{repository}: expected a packed model with {FILE_NAME}, found {names or 'no files'}; "
            "it is not a model of espnet_objsoup"
        )
    return str(info.sha), files


def _fetch(
    api: HfApi,
    repository: str,
    commit: str,
    files: Mapping[str, RepoFile],
    cache_dir: Path | None,
) -> Path:
    """Fetch a commit, which cannot change: what was looked at is what comes.

    Args:
        api: the client.
        repository: `user/name`.
        commit: not a branch, which might be another commit by now.
        files: all of the commit.
        cache_dir: as in `download`.
    """
    if files[FILE_NAME].size > MAX_BYTES:
        raise HubError(
            f"{repository}: {FILE_NAME}: expected at most {format_size(MAX_BYTES)}, found "
            f"{format_size(files[FILE_NAME].size)}"
        )
    meta_file = api.hf_hub_download(
        repository, FILE_NAME, revision=commit, cache_dir=cache_dir, etag_timeout=_TIMEOUT_S
    )
    meta = Meta.read(Path(meta_file))
    check_versions(meta, repository)
    patterns = _patterns(meta)
    wanted = list(filter_repo_objects(files, allow_patterns=patterns))
    _check_limits(repository, [files[name].size for name in wanted])
    for name in wanted:
        check_relative(name, repository)
    others = sorted(files.keys() - {*wanted, ".gitattributes"})
    if others:
        logging.info("%s: not fetched, of other kinds: %s", repository, ", ".join(others))
    found = api.snapshot_download(
        repository,
        revision=commit,
        cache_dir=cache_dir,
        allow_patterns=patterns,
        etag_timeout=_TIMEOUT_S,
    )
    for name in wanted:
        path = Path(found) / name
        size = path.stat().st_size if path.is_file() else 0
        if size != files[name].size:
            raise HubError(
                f"{repository}: {name}: expected {files[name].size} bytes, as the hub says, found "
                f"{size}; download it again"
            )
    if missing := _missing(Path(found), meta):
        raise HubError(
            f"{repository}: {FILE_NAME}: expected {missing} in the repository, of the kinds "
            f"{' '.join(KINDS)} unless it is the weights, found none"
        )
    return Path(found)


def _remember(found: Path, revision: str, commit: str) -> None:
    """Note which commit a branch or tag was, as huggingface_hub does that is asked for a branch.

    Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache, "Refs".
    """
    if revision != commit:
        reference = found.parent.parent / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(reference, commit.encode())


def _patterns(meta: Meta) -> list[str]:
    """For `fnmatch`, whose * has no regard for directories."""
    weights = re.sub(r"([*?[])", r"[\1]", meta.files[MODEL_FILE])
    return ["LICENSE", *(f"*{kind}" for kind in KINDS), weights]


def _missing(directory: Path, meta: Meta) -> str | None:
    names = (*meta.files.values(), *meta.yaml_files.values())
    return next((name for name in names if not (directory / name).is_file()), None)


def _check_limits(repository: str, sizes_bytes: Sequence[int]) -> None:
    total = sum(sizes_bytes)
    found = {
        "gb": (total / 1e9, f"{format_size(total)} of files"),
        "entries": (len(sizes_bytes), f"{len(sizes_bytes)} files"),
    }
    excess = Limits.of_environment().excess(found, "it")
    if excess:
        raise HubError(f"{repository}: {excess}")
