"""Reads Server-Sent Events: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerEvent:
    """An event; ``last_id`` is the newest id so far, to resume from."""

    name: str
    data: str
    last_id: str


def read_events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """Parse the lines of a stream, without their ends, into events; an incomplete last one is dropped."""
    name, last_id = "", ""
    data: list[str] = []
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield ServerEvent(name or "message", "\n".join(data), last_id)
            name, data = "", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            last_id = value
