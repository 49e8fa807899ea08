"""A hub of models of the tests' own, which answers over HTTP as Hugging Face's does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubRepository:
    """A repository.

    Attributes:
        files: Their sizes in bytes, by name.
        is_gated: Whether a licence is to be accepted.
        readers: The tokens whose owners have accepted it.
    """

    files: Mapping[str, int] = field(default_factory=dict)
    is_gated: bool = False
    readers: frozenset[str] = frozenset()


@contextmanager
def fake_hub(repositories: Mapping[str, HubRepository], tokens: frozenset[str] = frozenset()) -> Iterator[str]:
    """Serve repositories on a free port of the loopback interface; gives the address.

    Args:
        repositories: By their names.
        tokens: Those that the hub knows; others are refused.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(200)

        def do_GET(self) -> None:
            token = self.headers.get("authorization", "").removeprefix("Bearer ")
            if token and token not in tokens:
                return self._answer(401, message="Invalid credentials in Authorization header")
            owner, name, *rest = unquote(urlsplit(self.path).path).removeprefix("/api/models/").split("/")
            repository = repositories.get(f"{owner}/{name}")
            if repository is None:
                return self._answer(401, code="RepoNotFound")
            if rest == ["auth-check"]:
                may_read = not repository.is_gated or token in repository.readers
                return self._answer(200) if may_read else self._answer(403, code="GatedRepo")
            if rest[:1] == ["revision"] and rest[1] != "main":
                return self._answer(404, code="RevisionNotFound")
            siblings = [{"rfilename": name, "size": size} for name, size in repository.files.items()]
            gated = "manual" if repository.is_gated else False
            return self._answer(200, {"id": f"{owner}/{name}", "sha": COMMIT, "gated": gated, "siblings": siblings})

        def _answer(self, status: int, body: object = None, code: str = "", message: str = "") -> None:
            content = json.dumps({"error": message or code} if body is None else body).encode()
            self.send_response(status)
            for header, value in (("X-Error-Code", code), ("X-Error-Message", message)):
                if value:
                    self.send_header(header, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
