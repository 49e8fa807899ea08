"""Turns at something that there is little of: each client has its share, and they take turns."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class TooManyWaitingError(Exception):
    """Too many requests of this client wait for their turns."""


class Turns:
    """Gives places to clients, round robin; a client that takes all that it can get delays nobody else's next place.

    Args:
        places: How many there are.
        most_each: Of one client at the same time.
        most_waiting_each: Requests of one client that wait; None for any number.
    """

    def __init__(self, places: int, most_each: int, most_waiting_each: int | None = None) -> None:
        self._free = places
        self._most_each = most_each
        self._most_waiting_each = most_waiting_each
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it.

        Args:
            client: Whose turn it is.

        Raises:
            TooManyWaitingError: Too many requests of this client wait already.
        """
        leave = await self.take(client)
        try:
            yield
        finally:
            leave()

    async def take(self, client: str) -> Callable[[], None]:
        """Wait for a place, and return what gives it back; to call that again does nothing.

        Args:
            client: Whose turn it is.

        Raises:
            TooManyWaitingError: Too many requests of this client wait already.
        """
        await self._take(client)
        held = [client]

        def leave() -> None:
            if held:
                self._give_back(held.pop())

        return leave

    async def _take(self, client: str) -> None:
        queue = self._waiting.setdefault(client, deque())
        if self._most_waiting_each is not None and len(queue) >= self._most_waiting_each:
            raise TooManyWaitingError
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the place came at the same moment
                self._give_back(client)
            elif turn in queue:
                queue.remove(turn)
            raise

    def _give_back(self, client: str) -> None:
        self._free += 1
        self._held[client] -= 1
        self._hand_out()
        if not self._held[client]:
            del self._held[client]

    def _hand_out(self) -> None:
        for client, queue in list(self._waiting.items()):
            if not self._free:
                return
            while queue and queue[0].done():  # whoever waited is leaving
                queue.popleft()
            if queue and self._held[client] < self._most_each:
                self._free -= 1
                self._held[client] += 1
                queue.popleft().set_result(None)
                self._waiting[client] = self._waiting.pop(client)  # behind all others
            if not queue:
                del self._waiting[client]
