"""A proxy in front of an S3 server that fails when it is told to."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Fault(Enum):
    """What becomes of a request."""

    BUSY = "answered with 503"
    SKEWED = "answered that the clocks differ"
    FULL = "answered that there is no room"
    CUT = "answered, but for the second half of the body"
    DROPPED = "the connection is closed without an answer"
    STALLED = "no answer comes"


_ERRORS = {
    Fault.BUSY: (503, "SlowDown"),
    Fault.SKEWED: (403, "RequestTimeTooSkewed"),
    Fault.FULL: (507, "XMinioStorageFull"),
}
_PASSED_ON = ("content-length", "connection", "transfer-encoding", "date", "server")


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on, after those that :attr:`faults` names, from its left.

    Args:
        target: The server's URL.
    """

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.faults: deque[Fault] = deque()
        self.seen: list[str] = []
        self.ended = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append(self.command)
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault in _ERRORS:
            status, code = _ERRORS[fault]
            self._answer(status, {"Content-Type": "application/xml"}, f"<Error><Code>{code}</Code></Error>".encode())
        elif fault is Fault.DROPPED:
            self.close_connection = True
        elif fault is Fault.STALLED:
            self.server.ended.wait()
            self.close_connection = True
        else:
            self._pass_on(body, cut=fault is Fault.CUT)

    do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815 - the base class looks for these names

    def _pass_on(self, body: bytes, *, cut: bool) -> None:
        target = HTTPConnection(self.server.target)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        target.request(self.command, self.path, body or None, headers)
        answer = target.getresponse()
        content = answer.read()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _PASSED_ON}
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self._answer(answer.status, kept, content, length, cut=cut)
        target.close()

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, length: str | None = None, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = cut


@contextmanager
def faulty_proxy(target: str) -> Iterator[FaultyProxy]:
    """A proxy in front of a server, for so long."""
    with FaultyProxy(target) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield proxy
        proxy.ended.set()
        proxy.shutdown()
        thread.join()
