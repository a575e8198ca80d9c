# SPDX-License-Identifier: Apache-2.0
"""Put an unpacked model into a repository of the Hugging Face hub: first shown, then sent.

One commit takes the model there, so a repository never holds half of it. Large files are sent
before the commit and are found again by their checksums if it does not come about.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import ModelInfo, RepoFile
from humanfriendly import format_size

from espnet_objsoup import __version__
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.hub_client import (
    HubError,
    check_repository,
    explained,
    make_api,
    tried,
)
from espnet_objsoup.zoo.meta import FILE_NAME, Meta
from espnet_objsoup.zoo.safe_yaml import load_yaml

CARD = "README.md"
# By these a repository is known to hold a model.
_WEIGHTS = (
    ".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".onnx", ".h5", ".msgpack", ".gguf", ".tflite",
)  # fmt: skip
# The hub makes it; it says which files are large.
_KEPT = ".gitattributes"


@dataclass(frozen=True)
class PlannedFile:
    """A file that goes to the hub.

    Attributes:
        path: in the repository.
        size_bytes: of its content.
        sha256: by which the hub knows large files.
        git_oid: by which it knows others.
    """

    path: str
    size_bytes: int
    sha256: str
    git_oid: str


@dataclass(frozen=True)
class Plan:
    """What an upload would do.

    Attributes:
        repository: `user/name`.
        private: only the account itself may read it; otherwise a new repository is public.
        folder: whose content the repository shall have.
        files: of the folder.
        meta: description of the model.
    """

    repository: str
    private: bool
    folder: Path
    files: tuple[PlannedFile, ...]
    meta: Meta


@dataclass(frozen=True)
class Pushed:
    """What an upload has done.

    Attributes:
        url: of the model's page.
        commit: of the repository that holds the model.
        created: the repository is new.
        sent: paths of files that were not there.
        deleted: paths of an earlier model's files.
    """

    url: str
    commit: str
    created: bool
    sent: tuple[str, ...]
    deleted: tuple[str, ...]


def make_plan(folder: Path, repository: str, private: bool) -> Plan:
    """Look at an unpacked model, without any network.

    Args:
        folder: of the model, `meta.yaml` and the model card at its root.
        repository: `user/name`.
        private: only the account itself may read it.

    Raises:
        ModelError: if the folder is not a packed model with a model card, or the name is not one
            of a repository.
    """
    check_repository(repository)
    meta = Meta.read(folder / FILE_NAME)
    _check_card(folder / CARD)
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ModelError(f"{path}: expected a file or directory, found a link or device")
        if path.is_file():
            files.append(_planned(path, path.relative_to(folder).as_posix()))
    known = {file.path for file in files}
    for path in (*meta.files.values(), *meta.yaml_files.values()):
        if path not in known:
            raise ModelError(f"{folder / FILE_NAME}: expected {path} in {folder}, found none")
    return Plan(repository, private, folder, tuple(files), meta)


def show(plan: Plan) -> str:
    """The plan in words: repository, who may read it, every file with its size and checksum."""
    who = "private: only its account may read it"
    if not plan.private:
        who = "a new one will be public, one that exists stays as it is"
    width = max(len(format_size(file.size_bytes)) for file in plan.files)
    total = sum(file.size_bytes for file in plan.files)
    lines = [
        f"repository   {plan.repository} ({who})",
        *(f"{format_size(f.size_bytes):>{width}}  {f.sha256}  {f.path}" for f in plan.files),
        f"{len(plan.files)} files, {format_size(total)}; checksums are SHA-256",
    ]
    return "\n".join(lines)


def push(
    plan: Plan, replace: bool = False, endpoint: str | None = None, wait_s: float = 1.0
) -> Pushed:
    """Send a model to the hub. What is there already is not sent again.

    Args:
        plan: what to send where.
        replace: if the repository holds another model, put this one in its place: the repository
            then holds this model's files and no others. Its history keeps the old ones.
        endpoint: address of the hub; None: `HF_ENDPOINT`, else the public one.
        wait_s: before a lost or refused request is tried again; it doubles each time.

    Raises:
        HubError: if there is no token, no permission, no connection, or another model is there.
    """
    api = make_api(needs_token=True, endpoint=endpoint)
    with explained(plan.repository, api):
        info, created = _open_repository(api, plan, wait_s)
        there = _files_there(api, info)
        changed = [file for file in plan.files if not _is_there(file, there)]
        deleted = _files_to_delete(plan, there, replace)
        commit = str(info.sha)
        if changed or deleted:
            commit = _commit(api, plan, changed, deleted, commit, wait_s)
    url = f"{api.endpoint}/{plan.repository}"
    return Pushed(url, commit, created, tuple(file.path for file in changed), tuple(deleted))


def _open_repository(api: HfApi, plan: Plan, wait_s: float) -> tuple[ModelInfo, bool]:
    def info() -> ModelInfo:
        return api.model_info(plan.repository)

    try:
        found, created = tried(info, wait_s), False
    except RepositoryNotFoundError:
        # It may have been made by a try whose answer was lost.
        tried(lambda: api.create_repo(plan.repository, private=plan.private, exist_ok=True), wait_s)
        found, created = tried(info, wait_s), True
    if plan.private and not found.private:
        raise HubError(
            f"{plan.repository}: expected a private repository, found a public one; make it "
            f"private at {api.endpoint}/{plan.repository}/settings, or leave out --hf_private"
        )
    return found, created


def _files_there(api: HfApi, info: ModelInfo) -> dict[str, RepoFile]:
    tree = api.list_repo_tree(info.id, recursive=True, revision=info.sha)
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _is_there(file: PlannedFile, there: Mapping[str, RepoFile]) -> bool:
    entry = there.get(file.path)
    if entry is None:
        return False
    return entry.lfs.sha256 == file.sha256 if entry.lfs else entry.blob_id == file.git_oid


def _files_to_delete(plan: Plan, there: Mapping[str, RepoFile], replace: bool) -> list[str]:
    own = {file.sha256 for file in plan.files} | {file.git_oid for file in plan.files}
    others = [
        entry.path
        for entry in there.values()
        if entry.path.lower().endswith(_WEIGHTS)
        and (entry.lfs.sha256 if entry.lfs else entry.blob_id) not in own
    ]
    if not others:
        return []
    if not replace:
        raise HubError(
            f"{plan.repository}: expected an empty repository or this model, found another model "
            f"({', '.join(sorted(others)[:3])}); name another repository, or put this model in its "
            "place by --hf_replace true (the repository's history keeps the old one)"
        )
    wanted = {file.path for file in plan.files} | {_KEPT}
    return sorted(path for path in there if path not in wanted)


def _commit(
    api: HfApi,
    plan: Plan,
    changed: Sequence[PlannedFile],
    deleted: Sequence[str],
    parent: str,
    wait_s: float,
) -> str:
    operations = [
        *(CommitOperationAdd(file.path, plan.folder / file.path) for file in changed),
        *(CommitOperationDelete(path) for path in deleted),
    ]

    def commit() -> str:
        # Large files go first. The operations remember it, so another try does not send them again.
        made = api.create_commit(
            plan.repository,
            operations,
            commit_message=f"Upload by espnet_objsoup {__version__}",
            parent_commit=parent,
        )
        return made.oid

    try:
        return tried(commit, wait_s)
    except HfHubHTTPError as err:
        if err.response.status_code != 412:
            raise
        # The parent is not the newest commit any more: perhaps ours is, and its answer was lost.
        info = tried(lambda: api.model_info(plan.repository), wait_s)
        there = _files_there(api, info)
        if not all(_is_there(file, there) for file in plan.files):
            raise
        return str(info.sha)


def _planned(path: Path, name: str) -> PlannedFile:
    size = path.stat().st_size
    sha256, sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    sha1.update(b"blob %d\0" % size)  # what Git calls the file's object
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            sha1.update(chunk)
    return PlannedFile(name, size, sha256.hexdigest(), sha1.hexdigest())


def _check_card(path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"{path}: expected a model card, found none; pack the model (stage 14)")
    text = path.read_text(encoding="utf-8")
    try:
        opening, metadata, _ = text.split("---\n", 2)
        valid = opening == "" and isinstance(load_yaml(metadata.encode(), CARD), dict)
    except ValueError:
        valid = False
    if not valid:
        raise ModelError(
            f"{path}: expected a model card that begins with YAML between two lines of ---, which "
            "the hub reads; pack the model again (stage 14)"
        )
