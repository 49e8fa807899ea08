"""Refusals that come late, so that whoever waits for one to try again is slowed down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Pause = Callable[[float], Awaitable[None]]

_SECONDS = 1.0
_MOST_AT_ONCE = 256  # each of them keeps a connection


class LateRefusals:
    """Holds refusals back for a second; when there are too many of them, further ones come at once.

    Args:
        pause: Waits for some seconds.
    """

    def __init__(self, pause: Pause = asyncio.sleep) -> None:
        self._pause = pause
        self._held = 0

    async def hold(self) -> None:
        """Wait before a refusal is raised."""
        if self._held >= _MOST_AT_ONCE:
            return
        self._held += 1
        try:
            await self._pause(_SECONDS)
        finally:
            self._held -= 1
