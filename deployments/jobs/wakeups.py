"""Wakes those who wait for news of a topic within one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Wakeups:
    """Waiters by topic; a topic without waiters costs nothing."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def wake(self, topic: str) -> None:
        """Tell all who wait for a topic that there is news."""
        for news in self._waiting.get(topic, ()):
            news.set()

    def waiters(self, topic: str) -> int:
        """Count those who wait for a topic."""
        return len(self._waiting.get(topic, ()))

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
