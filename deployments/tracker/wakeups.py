"""Wakes those who wait for news of a topic within one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

Found = TypeVar("Found")


class Wakeups:
    """Waiters by topic; a topic without waiters costs nothing."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def wake(self, topic: str) -> None:
        """Wake all who wait for a topic."""
        for news in self._waiting.get(topic, ()):
            news.set()

    @contextmanager
    def waiting_for(self, topic: str) -> Iterator[asyncio.Event]:
        """Give an event that is set by every :meth:`wake` of the topic.

        Clear it before looking at the facts: then news between the look and the wait are not lost.
        """
        news = asyncio.Event()
        self._waiting.setdefault(topic, set()).add(news)
        try:
            yield news
        finally:
            waiting = self._waiting[topic]
            waiting.remove(news)
            if not waiting:
                del self._waiting[topic]

    async def poll(
        self, topic: str, look: Callable[[], Awaitable[Found]], is_news: Callable[[Found], bool], wait_seconds: float
    ) -> Found:
        """Return what a look finds as soon as it is news, or after ``wait_seconds``; a look follows every wake."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        with self.waiting_for(topic) as news:
            while True:
                news.clear()
                found = await look()
                left = deadline - loop.time()
                if is_news(found) or left <= 0:
                    return found
                # After a timeout too it looks once more: another tracker may have changed the store meanwhile.
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await news.wait()
