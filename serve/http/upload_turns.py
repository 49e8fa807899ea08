"""Large request bodies at Ray Serve's proxy, which reads whatever comes as fast as it comes, and keeps it in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.turns import Turns
from serve.protection.trusted_proxies import network_of

Pause = Callable[[float], Awaitable[None]]

_LARGE_BYTES = 256 * 1024
# At once, and of one address. Those that wait keep a connection, of which nothing is read.
_MOST, _MOST_EACH = 64, 2
# Of one body, in bytes a second: a picture of the largest size takes less than a second.
_RATE = 32 * 1024 * 1024


class UploadTurns:
    """Has large bodies take turns, and reads each at a limited rate.

    Args:
        app: The application behind this middleware.
        turns: Gives the turns, by the network of the address at the other end.
        pause: Waits for some seconds.
    """

    def __init__(self, app: ASGIApp, turns: Turns | None = None, pause: Pause = asyncio.sleep) -> None:
        self.app = app
        self._turns = turns or Turns(_MOST, _MOST_EACH)
        self._pause = pause

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, one with a large body when its turn has come."""
        if scope["type"] != "http" or not _may_be_large(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        peer = scope["client"][0] if scope.get("client") else ""
        async with AsyncExitStack() as turn:
            await turn.enter_async_context(self._turns.place(network_of(peer)))
            unpaid = 0

            async def receive_in_turn() -> Message:
                nonlocal unpaid
                message = await receive()
                unpaid += len(message.get("body", b""))
                if not message.get("more_body", False):
                    await turn.aclose()
                elif unpaid >= _LARGE_BYTES:
                    await self._pause(unpaid / _RATE)
                    unpaid = 0
                return message

            await self.app(scope, receive_in_turn, send)


def _may_be_large(headers: Headers) -> bool:
    length = headers.get("content-length", "0")
    return "transfer-encoding" in headers or not length.isdecimal() or int(length) >= _LARGE_BYTES
