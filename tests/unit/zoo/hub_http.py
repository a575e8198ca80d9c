# SPDX-License-Identifier: Apache-2.0
"""HTTP of the test hub: requests are read, logged, refused or spoilt as planned, and answered."""

import hashlib
import json
import re
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from tests.unit.zoo.hub_repositories import Account, HubState, Repository, Request


class Refusal(Exception):
    """An error answer of the hub: status, message and its X-Error-Code."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


class Handler(BaseHTTPRequestHandler):
    """Reads a request, finds its route, answers; the server has `state` and `storage_url`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's word of its head

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.handle_request()

    do_HEAD = do_POST = do_PUT = do_GET

    def handle_request(self) -> None:
        path = unquote(urlsplit(self.path).path)
        fault = self.server.state.fault_of(f"{self.command} {path}")
        self.lost = fault is not None and fault.status == "lost"
        if fault is not None and fault.status == "cut":
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            self.log(path, cut=True)
            self.hang_up()
            return
        self.body = self.read_body()
        self.log(path)
        try:
            if fault is not None and fault.status == "html":
                self.reply(502, b"<html>Bad gateway</html>", {"Content-Type": "text/html"})
                return
            if fault is not None and not self.lost:
                raise Refusal(fault.status, fault.message)
            with self.server.state.lock:
                self.server.answer(self, path)
        except Refusal as refusal:
            headers = {"X-Error-Message": refusal.message, "X-Request-Id": "Root=1-test"}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            self.reply(refusal.status, {"error": refusal.message}, headers)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log(self, path: str, cut: bool = False) -> None:
        given = self.headers.get("Authorization")
        storage = self.server.is_storage
        request = Request(self.command, path, given, len(self.body), storage, cut)
        self.server.state.requests.append(request)

    def reply(self, status: int, content: object = b"", headers: dict | None = None) -> None:
        if self.lost:
            self.hang_up()
            return
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        given = {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # Who asks, and what that one may do

    def account(self) -> Account | None:
        given = self.headers.get("Authorization")
        if given is None:
            return None
        account = self.server.state.accounts.get(given.removeprefix("Bearer "))
        if account is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return account

    def readable(self, name: str) -> Repository:
        account = self.account()
        repository = self.server.state.repositories.get(name)
        owner = name.split("/")[0]
        if repository is None or (
            repository.private and (account is None or owner not in account.scopes)
        ):
            # The hub does not tell who is not logged in whether it exists.
            if account is None:
                raise Refusal(401, "Invalid username or password.", "RepoNotFound")
            raise Refusal(404, "Repository not found", "RepoNotFound")
        return repository

    def writable(self, name: str) -> Repository:
        repository = self.readable(name)
        self.require_scope(name.split("/")[0])
        return repository

    def require_scope(self, namespace: str) -> Account:
        account = self.account()
        if account is None:
            raise Refusal(401, "Invalid username or password.")
        if namespace not in account.scopes:
            raise Refusal(
                403,
                "You don't have the rights to create a model under the namespace "
                f'"{namespace}". Authenticated as: {account.name}',
            )
        return account


class StorageServer(ThreadingHTTPServer):
    """Where large files are put and got with signed addresses."""

    daemon_threads = True
    is_storage = True

    def __init__(self, state: HubState) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = state
        self.url = f"http://127.0.0.1:{self.server_port}"

    def answer(self, request: Handler, path: str) -> None:
        oid = path.removeprefix("/objects/")
        if request.command == "PUT":
            if hashlib.sha256(request.body).hexdigest() != oid:
                raise Refusal(400, "The content does not match its address")
            self.state.objects[oid] = request.body
            request.reply(200, headers={"ETag": f'"{oid}"'})
        else:
            send_content(request, self.state.objects[oid], {"ETag": f'"{oid}"'})


def send_content(request: Handler, content: bytes, headers: dict) -> None:
    match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    if match:
        start = int(match[1])
        extent = f"bytes {start}-{len(content) - 1}/{len(content)}"
        request.reply(206, content[start:], {**headers, "Content-Range": extent})
    else:
        request.reply(200, content, headers)
