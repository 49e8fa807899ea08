"""How many long answers a client may have open at once.

Ray Serve's proxy keeps in memory what a client does not read, and each stream that is opened costs it a call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Literal

from deployments.settings.protection import LimitSettings
from serve.protection.identity import Identity
from serve.protection.late_refusals import LateRefusals
from serve.protection.rate_limits import RateLimitedError

Kind = Literal["streams", "downloads"]

_WORDS = {"streams": "event streams", "downloads": "downloads of many images"}


class TooManyOpenError(RateLimitedError):
    """Too many long answers of yours are open."""

    code = "too_many_open"


class OpenAnswers:
    """Counts the open answers of each client at this replica.

    Args:
        settings: The limits.
        refusals: Delays refusals.
    """

    def __init__(self, settings: LimitSettings, refusals: LateRefusals) -> None:
        self._most: dict[Kind, int] = {"streams": settings.streams_at_once, "downloads": settings.downloads_at_once}
        self._refusals = refusals
        self._open: Counter[tuple[Kind, str]] = Counter()

    async def begin(self, kind: Kind, who: Identity) -> Callable[[], None]:
        """Count one more open answer, and return what counts its end.

        Args:
            kind: Of the answer.
            who: The client.

        Raises:
            TooManyOpenError: The client has as many as it may have.
        """
        place, most = (kind, who.rate_key), self._most[kind]
        if self._open[place] >= most:
            await self._refusals.hold()
            message = f"{most} {_WORDS[kind]} of yours are open; end one of them before the next."
            raise TooManyOpenError(message, retry_after_seconds=1)
        self._open[place] += 1
        return partial(self._end, place)

    def _end(self, place: tuple[Kind, str]) -> None:
        self._open[place] -= 1
        if not self._open[place]:
            del self._open[place]
