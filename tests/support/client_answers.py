"""The client of the command line, with answers instead of a service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from serve.cli.client import Client

Handler = Callable[[httpx.Request], httpx.Response]


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    def read(self) -> float:
        return self.now


def connect(handler: Handler, clock: Clock | None = None, **options: Any) -> Client:
    clock = clock or Clock()
    transport = httpx.MockTransport(handler)
    return Client("http://service/", transport=transport, sleep=clock.sleep, clock=clock.read, **options)


def status_answer(status: str, **fields: Any) -> dict[str, Any]:
    return {"id": "j1", "status": status, "progress": {"step": 0, "total_steps": 4}, "images": [], **fields}


def in_turn(*answers: httpx.Response | Exception) -> Handler:
    remaining = list(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        answer = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle
