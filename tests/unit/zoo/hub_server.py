# SPDX-License-Identifier: Apache-2.0
"""A hub on this machine: real HTTP, the protocol that huggingface_hub's client speaks.

Source: the hub's OpenAPI description and the requests of huggingface_hub 2.4; Git LFS's batch API
(https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md). Large files are put to and got
from a second port, which stands for the hub's storage on another host. With `state.xet_store` the
hub hands out Xet tokens that name a directory as the store, which hf_xet reads and writes itself.
"""

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import yaml

from tests.unit.zoo.hub_http import Handler, Refusal, StorageServer, send_content
from tests.unit.zoo.hub_repositories import (
    Commit,
    HubState,
    Repository,
    StoredFile,
    is_large,
)

REPOSITORY = r"/api/models/(?P<repo>[^/]+/[^/]+)"
ROUTES = [
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("GET", rf"{REPOSITORY}(/revision/(?P<revision>[^/]+))?", "info"),
    ("GET", rf"{REPOSITORY}/tree/(?P<revision>[^/]+)", "tree"),
    ("POST", rf"{REPOSITORY}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"{REPOSITORY}/commit/(?P<revision>[^/]+)", "commit"),
    ("GET", rf"{REPOSITORY}/xet-(?P<right>read|write)-token/(?P<revision>[^/]+)", "xet_token"),
    ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
    ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/verify", "lfs_verify"),
    ("GET", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]


class HubServer(ThreadingHTTPServer):
    """The hub's own host."""

    daemon_threads = True
    is_storage = False

    def __init__(self, state: HubState, storage_url: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = state
        self.storage_url = storage_url
        self.url = f"http://127.0.0.1:{self.server_port}"

    def answer(self, request: Handler, path: str) -> None:
        command = "GET" if request.command == "HEAD" else request.command
        for method, pattern, name in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == command:
                getattr(self, name)(request, **match.groupdict())
                return
        raise Refusal(404, "Sorry, we can't find the page you are looking for.")

    def create(self, request: Handler) -> None:
        asked = json.loads(request.body)
        account = request.require_scope(asked["organization"] or request.account().name)
        name = f"{asked['organization'] or account.name}/{asked['name']}"
        url = f"{self.url}/{name}"
        if name in self.state.repositories:
            request.reply(409, {"error": "You already created this model repo", "url": url})
            return
        self.state.repositories[name] = Repository(name, asked.get("visibility") == "private")
        request.reply(200, {"url": url, "name": name, "id": "0123"})

    def validate_yaml(self, request: Handler) -> None:
        content = json.loads(request.body)["content"]
        match = re.match(r"---\n(.*?\n)---\n", content, re.DOTALL)
        errors = []
        if match:
            try:
                errors = card_errors(yaml.safe_load(match[1]))
            except yaml.YAMLError as err:
                errors = [str(err)]
        messages = [{"message": message} for message in errors]
        request.reply(400 if errors else 200, {"errors": messages, "warnings": []})

    def info(self, request: Handler, repo: str, revision: str | None) -> None:
        repository = request.readable(repo)
        commit = commit_at(repository, revision or "main")
        request.reply(
            200,
            {
                "_id": "0123",
                "id": repo,
                "modelId": repo,
                "sha": commit.oid,
                "private": repository.private,
                "siblings": [{"rfilename": path} for path in sorted(commit.files)],
                "tags": [],
                "downloads": 0,
                "likes": 0,
            },
        )

    def tree(self, request: Handler, repo: str, revision: str) -> None:
        commit = commit_at(request.readable(repo), revision)
        entries = []
        for path, file in sorted(commit.files.items()):
            entry = {"type": "file", "path": path, "oid": file.git_oid, "size": file.size}
            if file.lfs_sha256:
                entry["lfs"] = {"oid": file.lfs_sha256, "size": file.size, "pointerSize": 134}
                if file.lfs_sha256 in self.state.xet_hashes:
                    entry["xetHash"] = self.state.xet_hashes[file.lfs_sha256]
            entries.append(entry)
        request.reply(200, entries)

    def preupload(self, request: Handler, repo: str, revision: str) -> None:
        commit = commit_at(request.writable(repo), revision)
        answers = []
        for file in json.loads(request.body)["files"]:
            mode = "lfs" if is_large(file["path"], file["size"]) else "regular"
            answer = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            if file["path"] in commit.files:
                answer["oid"] = commit.files[file["path"]].oid
            answers.append(answer)
        request.reply(200, {"files": answers})

    def lfs_batch(self, request: Handler, repo: str) -> None:
        request.writable(repo)
        objects = []
        for wanted in json.loads(request.body)["objects"]:
            answer = dict(wanted)
            if wanted["oid"] not in self.state.objects:
                answer["actions"] = {
                    "upload": {"href": f"{self.storage_url}/objects/{wanted['oid']}"},
                    "verify": {"href": f"{self.url}/{repo}.git/info/lfs/objects/verify"},
                }
            objects.append(answer)
        request.reply(200, {"transfer": "basic", "objects": objects})

    def lfs_verify(self, request: Handler, repo: str) -> None:
        request.writable(repo)
        asked = json.loads(request.body)
        if len(self.state.objects.get(asked["oid"], b"")) != asked["size"]:
            raise Refusal(404, "Object not found")
        request.reply(200, {})

    def commit(self, request: Handler, repo: str, revision: str) -> None:
        repository = request.writable(repo)
        head = repository.head
        lines = [json.loads(line) for line in request.body.splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit") not in (None, head.oid):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
                files[value["path"]] = StoredFile(len(content), content)
            elif line["key"] == "lfsFile":
                content = self.state.objects.get(value["oid"])
                if content is None and self.state.xet_store is None:
                    raise Refusal(
                        400, f"LFS pointer pointed to a file that does not exist: {value}"
                    )
                files[value["path"]] = StoredFile(value["size"], content, value["oid"])
            elif line["key"] == "deletedFile" and files.pop(value["path"], None) is None:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
        made = repository.commit(header["summary"], files)
        url = f"{self.url}/{repo}/commit/{made.oid}"
        request.reply(200, {"success": True, "commitOid": made.oid, "commitUrl": url})

    def xet_token(self, request: Handler, repo: str, right: str, revision: str) -> None:
        request.writable(repo) if right == "write" else request.readable(repo)
        if self.state.xet_store is None:
            raise Refusal(404, "Xet is not enabled for this repository")
        token, end = f"xet_{right}", int(time.time()) + 3600
        request.reply(
            200,
            {"accessToken": token, "casUrl": f"local://{self.state.xet_store}", "exp": end},
            {
                "X-Xet-Cas-Url": f"local://{self.state.xet_store}",
                "X-Xet-Access-Token": token,
                "X-Xet-Token-Expiration": str(end),
            },
        )

    def resolve(self, request: Handler, repo: str, revision: str, path: str) -> None:
        commit = commit_at(request.readable(repo), revision)
        file = commit.files.get(path)
        if file is None:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.oid}"'}
        if file.lfs_sha256 is None:
            send_content(request, file.content, headers)
            return
        headers |= {
            "X-Linked-Etag": f'"{file.lfs_sha256}"',
            "X-Linked-Size": str(file.size),
            "Location": f"{self.storage_url}/objects/{file.lfs_sha256}",
        }
        if file.lfs_sha256 in self.state.xet_hashes:
            read = f"{self.url}/api/models/{repo}/xet-read-token/{commit.oid}"
            headers |= {
                "X-Xet-Hash": self.state.xet_hashes[file.lfs_sha256],
                "Link": f'<{read}>; rel="xet-auth"',
            }
        request.reply(302, headers=headers)


def commit_at(repository: Repository, revision: str) -> Commit:
    commit = repository.at(revision)
    if commit is None:
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit


def card_errors(metadata: object) -> list[str]:
    """What the hub refuses in a model card's metadata, of the fields that we write."""
    if not isinstance(metadata, dict):
        return ["metadata must be an object"]
    errors = []
    languages = metadata.get("language", [])
    for code in [languages] if isinstance(languages, str) else languages:
        if not re.fullmatch(r"[a-z]{2,3}|multilingual", str(code)):
            errors.append(f'"language" must only contain ISO 639 codes, found {code!r}')
    for name in ("tags", "datasets"):
        if not isinstance(metadata.get(name, []), list):
            errors.append(f'"{name}" must be an array')
    for name in ("license", "pipeline_tag", "library_name"):
        if not isinstance(metadata.get(name, ""), str):
            errors.append(f'"{name}" must be a string')
    return errors


@contextmanager
def running_hub(xet_store: Path | None = None) -> Iterator[HubServer]:
    """A hub that answers until the block ends, at `server.url`, with `server.state`."""
    state = HubState()
    state.xet_store = str(xet_store) if xet_store else None
    storage = StorageServer(state)
    hub = HubServer(state, storage.url)
    threads = [threading.Thread(target=s.serve_forever, args=(0.05,)) for s in (storage, hub)]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in (storage, hub):
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
