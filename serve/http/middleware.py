"""Middleware for every request: an id, a limit on its body, security headers, an answer for unexpected errors."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.telemetry.logs import about
from serve.http.front import request_id_of
from serve.http.problems import Problem, answer_problem, path_in_app

logger = logging.getLogger(__name__)

_TOO_MUCH_AT_ONCE = "Too many bytes of your requests are under way; send this one again when others are answered."
# A page has its own policy.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class RequestHeaders:
    """Adds the request's id (the caller's own, if it is valid) and the security headers to every answer, and logs it.

    The id is also in the state of the request's scope, as ``request_id``. The id of a queued job is sent too where a
    route has put it there as ``job_id``.

    Args:
        app: The application behind this middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add the headers to its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if (job_id := scope["state"].get("job_id")) is not None:
                    headers["X-Job-ID"] = job_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        began = time.monotonic()
        with about(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_headers)
            finally:
                # Only the path: a query may hold the signature of a link.
                level = logging.INFO if status >= HTTPStatus.BAD_REQUEST else logging.DEBUG
                seconds = time.monotonic() - began
                logger.log(
                    level, "%s %r was answered with %d in %.3f s", scope["method"], scope["path"], status, seconds
                )


class UnexpectedErrors:
    """Logs unexpected errors and answers them with 500.

    Starlette's own handler answers outside of all middleware, and raises the error again.

    Args:
        app: The application behind this middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and answer unexpected errors."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except ClientDisconnect:
            logger.debug("The client of %s %r left before its request was complete", scope["method"], scope["path"])
        except Exception:
            request_id = scope["state"]["request_id"]
            logger.exception("%s %r failed (request %s)", scope["method"], scope["path"], request_id)
            if started:
                raise  # so that the server closes the connection: the client must see that the answer is incomplete
            message = f"Something went wrong on the server; its log has the details of request {request_id}."
            await answer_problem(scope, Problem(500, "server_error", message))(scope, receive, send)


class BodyLimit:
    """Refuses request bodies above a limit, with or without a Content-Length, and too many of one client at once.

    Bodies are in memory until their requests are answered: many large ones of one client would fill it.

    Args:
        app: The application behind this middleware.
        max_bytes: The largest body.
        max_bytes_of: The largest body of a path with another limit.
        max_bytes_each: Of all bodies of one client that are not answered yet.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_bytes_of: Mapping[str, int], max_bytes_each: int) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_bytes_of = max_bytes_of
        self.max_bytes_each = max_bytes_each
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count its body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.max_bytes_of.get(path_in_app(scope), self.max_bytes)
        sentence = f"The request body is larger than the {limit} bytes that are allowed."
        if _announced_length(scope) > limit:
            await answer_problem(scope, Problem(413, "body_too_large", sentence))(scope, receive, send)
            return
        received, client = 0, scope["state"]["identity"].rate_key

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            length = len(message.get("body", b""))
            received += length
            self._under_way[client] += length
            # FastAPI turns any other error while it reads a body into its own 400.
            if received > limit:
                raise HTTPException(413, sentence)
            if self._under_way[client] > self.max_bytes_each:
                raise HTTPException(429, _TOO_MUCH_AT_ONCE, {"Retry-After": "1"})
            return message

        try:
            await self.app(scope, receive_within_limit, send)
        finally:
            self._under_way[client] -= received
            if not self._under_way[client]:
                del self._under_way[client]


def _announced_length(scope: Scope) -> int:
    """Return the Content-Length; 0 where it is missing or invalid, as the bytes are counted anyway."""
    try:
        return int(Headers(scope=scope).get("content-length", "0"))
    except ValueError:
        return 0
