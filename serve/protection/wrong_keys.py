"""What follows when somebody tries wrong keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from deployments.tracker.rate_windows import RateWindows
from serve.protection.rate_limits import RateLimitedError
from serve.protection.trusted_proxies import network_of

_HOLD_SECONDS = 2.0
_MOST_HELD = 256  # refusals at once; each of them keeps a connection

Pause = Callable[[float], Awaitable[None]]
Found = TypeVar("Found")


class TooManyWrongKeysError(RateLimitedError):
    """There were too many wrong keys or links."""

    code = "too_many_wrong_keys"


class WrongKeys:
    """Counts failed authentications by network, and refuses to look up keys of a network that has too many.

    A refusal waits some seconds before it is answered, which slows down whoever waits for the answer to try again.

    Args:
        per_minute: Failures that a network may have in a minute.
        windows: Counts them.
        pause: Waits for some seconds.
    """

    def __init__(self, per_minute: int, windows: RateWindows, pause: Pause = asyncio.sleep) -> None:
        self._per_minute = per_minute
        self._windows = windows
        self._pause = pause
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._held = 0

    async def attempt(self, address: str, look_up: Callable[[], Awaitable[Found | None]]) -> Found | None:
        """Return what is looked up, and count where nothing is found.

        A network's look-ups take turns: those that come at once see each other's failures.

        Args:
            address: Where the attempt comes from.
            look_up: Finds whose key it is, if anybody's.

        Raises:
            TooManyWrongKeysError: The network has failed too often; nothing is looked up.
        """
        network = network_of(address)
        window = f"wrong keys/{network}"
        async with self._turns.setdefault(network, asyncio.Lock()):
            stands = await self._windows.look(window, self._per_minute)
            if stands.remaining > 0:
                found = await look_up()
                if found is None:
                    await self._windows.spend(window, self._per_minute)
                return found
        await self._hold()
        raise TooManyWrongKeysError(
            f"There were {self._per_minute} wrong keys or links from your network in a minute; "
            f"try again in {stands.reset_seconds} s.",
            retry_after_seconds=stands.reset_seconds,
        )

    async def _hold(self) -> None:
        if self._held >= _MOST_HELD:
            return
        self._held += 1
        try:
            await self._pause(_HOLD_SECONDS)
        finally:
            self._held -= 1
