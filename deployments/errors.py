"""The base of the errors that a client or an operator reads."""

from __future__ import annotations

from typing import ClassVar


class CyberImageError(Exception):
    """Something went wrong.

    The docstring of a subclass is its default message. Errors cross processes: pickling calls the class with ``args``
    and restores ``__dict__``.

    Args:
        message: A sentence for the reader; the class's docstring if left out.
    """

    status: ClassVar[int] = 500
    """The HTTP status of the answer."""
    code: ClassVar[str] = ""
    """A stable name of the error for programs; empty: the name that belongs to the status."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)
