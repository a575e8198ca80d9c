# SPDX-License-Identifier: Apache-2.0
"""What the test hub keeps: accounts, repositories with commits, large files, and planned faults."""

import hashlib
import re
import threading
from dataclasses import dataclass, field

# What the hub's default .gitattributes keeps outside Git, of the kinds that models have.
LARGE_KINDS = (".pth", ".npz", ".model", ".zip")
LARGE_BYTES = 10_000_000


@dataclass(frozen=True)
class Account:
    """Who a token belongs to; `scopes` are the namespaces that it may read and write."""

    name: str
    scopes: frozenset[str]


@dataclass(frozen=True)
class StoredFile:
    """A file of a commit; `content` is None where it lies in Xet's store."""

    size: int
    content: bytes | None
    lfs_sha256: str | None = None

    @property
    def git_oid(self) -> str:
        if self.lfs_sha256 is not None:
            pointer = (
                "version https://git-lfs.github.com/spec/v1\n"
                f"oid sha256:{self.lfs_sha256}\nsize {self.size}\n"
            )
            return git_oid(pointer.encode())
        return git_oid(self.content)

    @property
    def oid(self) -> str:
        """What preupload answers, for clients to leave out files that have not changed."""
        return self.lfs_sha256 or self.git_oid


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Commit:
    oid: str
    title: str
    files: dict[str, StoredFile]


@dataclass
class Repository:
    name: str
    private: bool
    commits: list[Commit] = field(default_factory=list)

    def __post_init__(self):
        self.commit("initial commit", {".gitattributes": StoredFile(4, b"*\n\n\n")})

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.head
        return next((commit for commit in self.commits if commit.oid == revision), None)

    def commit(self, title: str, files: dict[str, StoredFile]) -> Commit:
        seed = f"{self.name} {len(self.commits)} {sorted(files)}"
        made = Commit(hashlib.sha1(seed.encode()).hexdigest(), title, files)
        self.commits.append(made)
        return made


@dataclass
class Fault:
    """What happens to requests whose `METHOD /path` matches.

    `status` is that of an error answer, or "cut": the connection is closed in the middle of the
    request's body, "lost": it is closed after the request has been carried out, or "html": a
    gateway's page.
    """

    pattern: str
    status: int | str
    times: int
    skip: int
    message: str

    def strikes(self, request: str) -> bool:
        if not re.search(self.pattern, request) or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass(frozen=True)
class Request:
    """Of the log: `storage` is the host for large files, which must never see a token."""

    method: str
    path: str
    authorization: str | None
    body_bytes: int
    storage: bool
    cut: bool = False


class HubState:
    """Everything that requests read and change."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.accounts: dict[str, Account] = {}
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}  # large files by their SHA-256
        self.xet_store: str | None = None  # a directory: large files go through Xet
        self.xet_hashes: dict[str, str] = {}  # SHA-256 -> Xet's hash
        self.requests: list[Request] = []
        self.faults: list[Fault] = []

    def add_account(self, token: str, name: str, *scopes: str) -> None:
        self.accounts[token] = Account(name, frozenset((name, *scopes)))

    def fail(
        self,
        pattern: str,
        status: int | str = 503,
        times: int = 1,
        skip: int = 0,
        message: str = "Internal Error - We're working hard to fix this as soon as possible!",
    ) -> None:
        """Plan a fault: leave out `skip` matching requests, then strike `times` (-1: always)."""
        self.faults.append(Fault(pattern, status, times, skip, message))

    def fault_of(self, request: str) -> Fault | None:
        with self.lock:
            return next((fault for fault in self.faults if fault.strikes(request)), None)

    def sent(self, pattern: str) -> list[Request]:
        """Requests of the log whose `METHOD /path` matches."""
        return [r for r in self.requests if re.search(pattern, f"{r.method} {r.path}")]

    def add_repository(
        self, name: str, files: dict[str, bytes] | None = None, private: bool = False
    ) -> Repository:
        repository = self.repositories[name] = Repository(name, private)
        if files:
            stored = {path: self.store(path, content) for path, content in files.items()}
            repository.commit("Upload", {**repository.head.files, **stored})
        return repository

    def store(self, path: str, content: bytes) -> StoredFile:
        if not is_large(path, len(content)):
            return StoredFile(len(content), content)
        oid = hashlib.sha256(content).hexdigest()
        self.objects[oid] = content
        return StoredFile(len(content), content, oid)


def is_large(path: str, size: int) -> bool:
    return path.endswith(LARGE_KINDS) or size > LARGE_BYTES
