"""Requests take turns before they reach Ray Serve's proxy, so that a client with many of them delays only its own.

A request costs the proxy and a replica some milliseconds of CPU time, however soon its client leaves. The proxy reads
bodies as fast as they come, and keeps what a client does not read of an answer: both are in its memory. A request that
waits here costs a connection: nothing of a large body is read, and when its client leaves, nothing else happens.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from typing import Any, NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.turns import Turns
from serve.protection.trusted_proxies import network_of

Pause = Callable[[float], Awaitable[None]]

_ANY_NUMBER = 10**9
# Young requests: without an answer, and younger than this. Of one client, and of all clients of its network.
_YOUNG_SECONDS = 0.05
_MOST_YOUNG_EACH, _MOST_YOUNG_OF_NETWORK = 2, 12

_LARGE_BODY_BYTES = 256 * 1024
_MOST_LARGE_BODIES, _MOST_LARGE_BODIES_EACH = 64, 2
_BODY_RATE = 12 * 1024 * 1024  # of one large body, in bytes a second
_MOST_UNREAD_SECONDS = 60.0


class _Answers(NamedTuple):
    """Answers that are long, or long unread.

    Attributes:
        paths: Where they come from.
        most: Open at once.
        most_each: Of one client.
        least_seconds: For which each one counts as open: nobody honest reads a stream again and again within seconds.
    """

    paths: re.Pattern[str]
    most: int
    most_each: int
    least_seconds: float = 0.0


_ANSWERS = (
    _Answers(re.compile(r"/api/events|/api/jobs/[^/]+/events"), _ANY_NUMBER, 64, least_seconds=8.0),
    _Answers(re.compile(r"/api/images/download"), 16, 2),
    _Answers(re.compile(r"/api/(?:get_)?image/.+"), 256, 8),
)


class RequestTurns:
    """Has the requests of each client take turns.

    A client is the network of the address at the other end, together with the API key that it shows: many clients may
    come through one proxy. One that invents keys is answered that they are wrong, and gets no long answers.

    Args:
        app: The application behind this middleware.
        pause: Waits for some seconds.
    """

    def __init__(self, app: ASGIApp, pause: Pause = asyncio.sleep) -> None:
        self.app = app
        self._pause = pause
        self._young = Turns(_ANY_NUMBER, _MOST_YOUNG_EACH)
        self._young_of_network = Turns(_ANY_NUMBER, _MOST_YOUNG_OF_NETWORK)
        self._bodies = Turns(_MOST_LARGE_BODIES, _MOST_LARGE_BODIES_EACH)
        self._answers = [(answers, Turns(answers.most, answers.most_each)) for answers in _ANSWERS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on when its turn has come."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        network, client = _client_of(scope)
        with ExitStack() as at_end:
            for answers, turns in self._answers_at(scope):
                reader = _Reader(receive)
                at_end.callback(reader.close)
                receive = reader.receive
                leave = await reader.unless_it_leaves(turns.take(client))
                if leave is None:
                    return
                at_end.callback(_not_before, asyncio.get_running_loop().time() + answers.least_seconds, leave)
            if _has_large_body(scope):
                leave = await self._bodies.take(client)
                at_end.callback(leave)
                receive = self._paced(receive, leave)
            youth = at_end.enter_context(ExitStack())
            for young, name in ((self._young, client), (self._young_of_network, network)):
                youth.callback(await young.take(name))
            at_end.callback(asyncio.get_running_loop().call_later(_YOUNG_SECONDS, youth.close).cancel)
            try:
                await self.app(scope, receive, _prompt(send, youth.close))
            except _UnreadError:
                return  # the server closes the connection, as the answer is not complete

    def _answers_at(self, scope: Scope) -> list[tuple[_Answers, Turns]]:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        return [each for each in self._answers if each[0].paths.fullmatch(path)]

    def _paced(self, receive: Receive, leave: Callable[[], None]) -> Receive:
        """Receive a body at a limited rate; its place is free when it is complete."""
        unpaid = 0

        async def receive_slowly() -> Message:
            nonlocal unpaid
            message = await receive()
            unpaid += len(message.get("body", b""))
            if not message.get("more_body", False):
                leave()
            elif unpaid >= _LARGE_BODY_BYTES:
                await self._pause(unpaid / _BODY_RATE)
                unpaid = 0
            return message

        return receive_slowly


class _Reader:
    """Who reads an answer: watched while it waits, so that nothing is done for one that has left."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: list[Message] = []
        self._next: asyncio.Future[Message] | None = None

    async def receive(self) -> Message:
        """Receive as the application behind does."""
        if self._messages:
            return self._messages.pop(0)
        return await self._receive() if self._next is None else await asyncio.shield(self._next)

    async def unless_it_leaves(self, work: Coroutine[None, None, Callable[[], None]]) -> Callable[[], None] | None:
        """Wait for a place; None where the reader leaves before. What is left of a small body is received later."""
        self._messages.append(await self._receive())
        if not self._messages[0].get("more_body", False):
            self._next = asyncio.ensure_future(self._receive())
        waiting = asyncio.ensure_future(work)
        try:
            events: list[asyncio.Future[Any]] = [waiting] if self._next is None else [waiting, self._next]
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            _let_go(waiting)
            raise
        if self._next is not None and self._next.done():
            _let_go(waiting)
            return None
        return waiting.result()

    def close(self) -> None:
        """Stop watching."""
        if self._next is not None:
            self._next.cancel()


class _UnreadError(Exception):
    """The client does not read its answer."""


def _not_before(moment: float, act: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    if loop.time() < moment:
        loop.call_at(moment, act)
    else:
        act()


def _let_go(place: asyncio.Future[Callable[[], None]]) -> None:
    if place.done() and not place.cancelled():
        place.result()()
    place.cancel()


def _prompt(send: Send, end_youth: Callable[[], None]) -> Send:
    """Send an answer to whoever reads it; with its beginning, the request is no longer young."""

    async def send_in_time(message: Message) -> None:
        end_youth()
        try:
            async with asyncio.timeout(_MOST_UNREAD_SECONDS):
                await send(message)
        except TimeoutError:
            raise _UnreadError from None

    return send_in_time


def _client_of(scope: Scope) -> tuple[str, str]:
    """Return the client's network and its own name."""
    headers, peer = Headers(scope=scope), scope["client"][0] if scope.get("client") else ""
    network = network_of(peer)
    key = f"{headers.get('authorization')}\n{headers.get('x-api-key')}"
    return network, f"{network}/{hashlib.sha256(key.encode('latin-1')).hexdigest()}"


def _has_large_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    length = headers.get("content-length", "0")
    return "transfer-encoding" in headers or not length.isdecimal() or int(length) >= _LARGE_BODY_BYTES
