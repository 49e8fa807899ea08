"""Traces requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from deployments.telemetry.tracer import Tracer


class RequestSpans:
    """Records a span for each request, with the names of
    https://opentelemetry.io/docs/specs/semconv/http/http-spans/.

    Args:
        app: The application behind this middleware.
        tracer: Records the spans.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self.app = app
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with self.tracer.request_span(scope["method"], Headers(scope=scope)) as span:
            span.set_attribute("request_id", scope["state"]["request_id"])

            async def send_and_note(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    # Known once the route is chosen. The path has ids in it, so it is no name for a span.
                    if (route := getattr(scope.get("route"), "path", None)) is not None:
                        span.update_name(f"{scope['method']} {route}")
                        span.set_attribute("http.route", route)
                await send(message)

            await self.app(scope, receive, send_and_note)
