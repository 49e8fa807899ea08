"""Reads Server-Sent Events from an application in memory, as slowly as a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI


@dataclass
class Event:
    name: str = ""
    id: str | None = None
    data: Any = None
    comments: list[str] = field(default_factory=list)


class EventStream:
    """An answer whose body is taken piece by piece; what was not taken keeps the application waiting."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.last_id = ""
        self.pings = 0
        self._messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(1)
        self._buffer = b""

    async def raw(self) -> Event | None:
        """The next block, events and others alike; None after the last one."""
        while b"\r\n\r\n" not in self._buffer:
            message = await self._messages.get()
            if message is None or not message.get("more_body"):
                return None
            self._buffer += message["body"]
        block, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        event = Event()
        for line in block.decode().split("\r\n"):
            name, _, value = line.partition(": ")
            match name:
                case "":
                    event.comments.append(value)
                case "id":
                    self.last_id = event.id = value
                case "event":
                    event.name = value
                case "data":
                    event.data = json.loads(value)
        self.pings += bool(event.comments)
        return event

    async def event(self, *names: str) -> Event:
        """The next event, of one of these names if there are any; an end of the stream fails the test."""
        while True:
            event = await self.raw()
            assert event is not None, "the stream has ended"
            if event.name and (not names or event.name in names):
                return event

    async def rest(self) -> list[str]:
        """The names of all events until the stream ends."""
        names = []
        while (event := await self.raw()) is not None:
            names += [event.name] if event.name else []
        return names


@asynccontextmanager
async def open_stream(
    app: FastAPI,
    url: str,
    headers: Mapping[str, str] | None = None,
    client: str = "10.1.2.3",
    body: Mapping[str, Any] | None = None,
) -> AsyncIterator[EventStream]:
    """Ask for a stream, by POST where there is a body, and disconnect at the end of the block."""
    stream, asked, gone = EventStream(), asyncio.Event(), asyncio.Event()
    content = b"" if body is None else json.dumps(body).encode()
    headers = {**(headers or {}), **({} if body is None else {"Content-Type": "application/json"})}

    async def receive() -> dict[str, Any]:
        if not asked.is_set():
            asked.set()
            return {"type": "http.request", "body": content, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            stream.status = message["status"]
            stream.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        await stream._messages.put(message)

    async def run() -> None:
        await app(scope, receive, send)
        await stream._messages.put(None)

    parts = urlsplit(url)
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1",
        "method": "GET" if body is None else "POST", "scheme": "http",
        "path": parts.path, "raw_path": parts.path.encode(), "query_string": parts.query.encode(), "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": (client, 4567), "server": ("service", 80),
    }  # fmt: skip
    task = asyncio.create_task(run())
    started = await stream._messages.get()
    assert started is not None
    assert started["type"] == "http.response.start"
    try:
        yield stream
    finally:
        gone.set()
        while not task.done():
            with suppress(asyncio.QueueEmpty):
                stream._messages.get_nowait()
            await asyncio.sleep(0)
        await task
