# SPDX-License-Identifier: Apache-2.0
"""A web server on this machine whose faults can be chosen."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class WebServer:
    """Files to serve, and how.

    Attributes:
        files: path -> content.
        ranges: answer requests for a part of a file.
        tag: sent as ETag, the version of all files.
        cuts: for each answer to come, after how many bytes the connection ends; None: whole.
        statuses: for each answer to come, an error instead.
        requests: (method, path, Range, If-Range) of what was asked.
        sent: bytes of all answers.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    tag: str = '"1"'
    cuts: list[int | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    sent: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serve(server: WebServer) -> Iterator[WebServer]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            wanted, version = self.headers.get("Range"), self.headers.get("If-Range")
            server.requests.append((self.command, self.path, wanted, version))
            content = server.files.get(self.path)
            if content is None:
                return self.send_error(404)
            if body and server.statuses:
                return self.send_error(server.statuses.pop(0))
            begin = 0
            if wanted and server.ranges and version == server.tag:
                begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
                self.send_response(206)
                self.send_header(
                    "Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}"
                )
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content) - begin))
            self.send_header("ETag", server.tag)
            self.end_headers()
            if body:
                end = server.cuts.pop(0) if server.cuts else None
                part = content[begin:] if end is None else content[begin : begin + end]
                with suppress(ConnectionError):  # who asked may have had enough
                    self.wfile.write(part)
                server.sent += len(part)
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.port = http.server_port
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
