"""Clients that leave before they have their answer, as Ray Serve reports them."""

from __future__ import annotations

from ray.exceptions import TaskCancelledError
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Disconnects:
    """Tells the application that a client has left, where Ray Serve may raise an error instead.

    Ray Serve cancels the call that fetches a request's messages from its proxy, and ``receive`` raises the outcome.

    Args:
        app: The application behind this middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def receive_or_leave() -> Message:
            try:
                return await receive()
            except TaskCancelledError:
                return {"type": "http.disconnect"}

        await self.app(scope, receive_or_leave if scope["type"] == "http" else receive, send)
