"""Places in lists that are read newest first, in a form that clients hand back."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from deployments.jobs.records.exceptions import InvalidCursorError

_LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class Cursor:
    """The last row of a page: the next page begins behind it."""

    at: datetime
    number: int

    def encode(self) -> str:
        """Return it as letters, digits, ``-`` and ``_``."""
        return urlsafe_b64encode(f"{self.number}/{self.at.isoformat()}".encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Read what :meth:`encode` gave.

        Raises:
            InvalidCursorError: It is something else.
        """
        try:
            number, at = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").split("/")
            time, place = datetime.fromisoformat(at), int(number)
            if time.tzinfo is None or not 0 <= place <= _LARGEST_NUMBER:
                raise InvalidCursorError
            return cls(time.astimezone(UTC), place)
        except (ValueError, OverflowError):  # with its offset a time may leave the calendar
            raise InvalidCursorError from None


def next_cursor(found: Sequence[Cursor], limit: int) -> str | None:
    """Return where the next page begins, of rows of which one more than ``limit`` was looked for."""
    return found[limit - 1].encode() if len(found) > limit else None
