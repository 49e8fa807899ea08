"""The time, and times as clients read them."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time, aware and in UTC."""
    return datetime.now(UTC)


def iso_utc(moment: datetime, timespec: str = "milliseconds") -> str:
    """Return an aware time in ISO 8601, in UTC with Z.

    Args:
        moment: The time.
        timespec: To which unit, as of :meth:`datetime.isoformat`.
    """
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
