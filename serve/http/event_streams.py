"""Streams of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent

_FIELDS = ("id", "event", "data")
# A reader who receives nothing for so long has gone.
_SEND_SECONDS = 60.0


def event_content(example: str) -> dict[str, Any]:
    """Return the ``content`` of a stream for FastAPI's ``responses``.

    ``itemSchema`` belongs to OpenAPI 3.2 (https://spec.openapis.org/oas/v3.2.0#sequential-media-types); FastAPI accepts
    it in documents of 3.1 too.

    Args:
        example: A part of a stream.
    """
    event = {"type": "object", "required": ["data"], "properties": {name: {"type": "string"} for name in _FIELDS}}
    return {"text/event-stream": {"itemSchema": event, "example": example}}


def event_stream(events: AsyncIterator[ServerSentEvent], heartbeat_seconds: float) -> EventSourceResponse:
    """Return an answer that sends events as they come, with comments as heartbeats between them.

    Args:
        events: Closed when the reader disconnects.
        heartbeat_seconds: Time between two heartbeats, which keep the connection open.
    """
    return EventSourceResponse(
        events,
        ping=heartbeat_seconds,
        ping_message_factory=lambda: ServerSentEvent(comment="still here"),
        send_timeout=_SEND_SECONDS,
    )
