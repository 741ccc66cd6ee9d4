"""A Hugging Face Hub on the loopback interface, with the faults that tests ask for.

It answers `HEAD` and `GET /{repo}/resolve/{revision}/{file}` with the headers of the real one
(ETag, X-Repo-Commit, X-Linked-Etag, X-Linked-Size, Accept-Ranges) and honours Range.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PATH = re.compile(r"^/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")


@dataclass(frozen=True)
class Request:
    """One request as it came in; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class HubServer:
    """The server; use it as a context manager.

    Attributes:
        files: Name to bytes.
        status: Name to a status that is answered instead of the file.
        cuts: Body bytes to send before the connection is closed, one entry for each GET.
        drip: Bytes and seconds: sends so many, then sleeps, and so on.
        ranges: Whether Range is honoured.
        shift: Bytes by which the answer to a Range starts too late.
        redirect: Base address of another server that holds the bytes, as the real Hub's CDN.
        requests: What came in.
    """

    files: dict[str, bytes]
    status: dict[str, int] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    drip: tuple[int, float] | None = None
    ranges: bool = True
    shift: int = 0
    redirect: str | None = None
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> HubServer:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Value for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def gets(self) -> list[Request]:
        """What asked for a file's bytes; the library asks the Hub for other things too."""
        return [r for r in self.requests if r.method == "GET" and _PATH.match(r.path)]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Silence."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append(Request(self.command, self.path, headers))
        match = _PATH.match(self.path)
        name = match["file"] if match else ""
        status = self.hub.status.get(name, 200 if name in self.hub.files else 404)
        if status != 200 or match is None:
            self._head(status, {"X-Error-Message": "no luck", "Content-Length": "0"})
            return
        data = self.hub.files[name]
        etag = hashlib.sha256(data).hexdigest()
        common = {"X-Repo-Commit": match["revision"], "X-Linked-Etag": f'"{etag}"'}
        common |= {"X-Linked-Size": str(len(data)), "Accept-Ranges": "bytes", "ETag": f'"{etag}"'}
        if self.hub.redirect:
            where = {"Location": self.hub.redirect + self.path, "Content-Length": "0"}
            self._head(302, common | where)
            return
        self._send(data, headers.get("range", ""), common, body)

    def _send(self, data: bytes, asked: str, common: dict[str, str], body: bool) -> None:
        start = 0
        if self.hub.ranges and (match := re.match(r"bytes=(\d+)-$", asked)):
            start = int(match[1]) + self.hub.shift
            if start >= len(data):
                whole = {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"}
                self._head(416, common | whole)
                return
            common["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        partial = "Content-Range" in common
        self._head(206 if partial else 200, common | {"Content-Length": str(len(rest))})
        if body:
            self._body(rest)

    def _body(self, rest: bytes) -> None:
        cut = self.hub.cuts.pop(0) if self.hub.cuts else len(rest)
        step, pause = self.hub.drip or (1 << 16, 0.0)
        sent = rest[:cut]
        try:
            for at in range(0, len(sent), step):
                self.wfile.write(sent[at : at + step])
                time.sleep(pause)
        except OSError:
            self.close_connection = True
        if cut < len(rest):
            self.close_connection = True

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
