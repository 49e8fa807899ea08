"""Answers that are streams of events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent

_FIELDS = ("id", "event", "data")
# A reader who takes nothing for so long is not there any more.
_SEND_SECONDS = 60.0


def event_content(example: str) -> dict[str, Any]:
    """What FastAPI's ``responses`` has as the ``content`` of a stream.

    ``itemSchema`` is of OpenAPI 3.2 (https://spec.openapis.org/oas/v3.2.0#sequential-media-types); in its documents of
    3.1 FastAPI has it too.

    Args:
        example: A part of a stream.
    """
    event = {"type": "object", "required": ["data"], "properties": {name: {"type": "string"} for name in _FIELDS}}
    return {"text/event-stream": {"itemSchema": event, "example": example}}


def event_stream(events: AsyncIterator[ServerSentEvent], heartbeat_seconds: float) -> EventSourceResponse:
    """Return the answer that sends events as they come, and a comment now and then between them.

    Args:
        events: They are given up when the reader leaves.
        heartbeat_seconds: Between two comments, which keep the connection.
    """
    return EventSourceResponse(
        events,
        ping=heartbeat_seconds,
        ping_message_factory=lambda: ServerSentEvent(comment="still here"),
        send_timeout=_SEND_SECONDS,
    )
