"""Stands in front of Ray Serve's HTTP proxy, in the proxy's process.

By itself the proxy echoes any X-Request-ID in a header of its own, shows its routes to everybody, obeys headers of any
client, answers 500 where it cannot decode one of them, and calls the replica for each piece of a body, however small.
"""

from __future__ import annotations

import re
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.request_turns import RequestTurns

IMPORT_PATH = "serve.http.front:middlewares"
"""For ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``."""

HEADERS_OF_RAY = ("x-request-timeout-seconds", "x-request-disconnect-disabled")
"""By these a client could set Ray Serve's time limit for its request, or let it run after a disconnect."""

# By these it could choose among replicas. Ray takes - and _ for the same.
_ROUTING_HEADERS = ("serve-multiplexed-model-id", "x-session-id")
_ROUTES = "/-/routes"
_LEAST_PIECE_BYTES = 64 * 1024
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def middlewares() -> list[Middleware]:
    """Return what Ray Serve's proxy wraps itself into; it calls this when it starts."""
    return [Middleware(Front), Middleware(RequestTurns)]


def request_id_of(scope: Scope) -> str:
    """Return the id of a request: the client's own, if it is valid, or a new one."""
    given = Headers(scope=scope).getlist("x-request-id")
    return given[0] if len(given) == 1 and _SANE_REQUEST_ID.fullmatch(given[0]) else str(uuid4())


class Front:
    """Gives a request its id, hides the proxy's routes, takes orders to it away, and gathers the pieces of a body.

    Args:
        app: Ray Serve's proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the proxy."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(scope)
        scope["headers"] = [_harmless(*header) for header in scope["headers"] if not _is_for_routing(header[0])]
        MutableHeaders(scope=scope)["X-Request-ID"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        if scope["path"].removeprefix(scope.get("root_path", "")) == _ROUTES:
            body = {"status": "error", "message": "There is nothing at this address."}
            answer = JSONResponse(body, 404, {"X-Content-Type-Options": "nosniff"})
            await answer(scope, receive, send_with_id)
            return
        await self.app(scope, _Pieces(receive), send_with_id)


def _is_for_routing(name: bytes) -> bool:
    return name.replace(b"_", b"-").decode("latin-1") in _ROUTING_HEADERS


def _harmless(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return a header without what Ray would obey. Its name stays: the application refuses the request."""
    return name, b"" if name.decode("latin-1") in HEADERS_OF_RAY else value


class _Pieces:
    """Receives a body in pieces of 64 KiB or more, but for the last one."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def __call__(self) -> Message:
        gathered = bytearray()
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                return message  # the client has left: what came of the body is of no use
            if not gathered and not message.get("more_body", False):
                return message
            gathered += message.get("body", b"")
            more = message.get("more_body", False)
            if not more or len(gathered) >= _LEAST_PIECE_BYTES:
                return {"type": "http.request", "body": bytes(gathered), "more_body": more}
