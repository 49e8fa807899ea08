"""Errors that the edge raises itself; each carries its HTTP status."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar


class ApiError(Exception):
    """The request could not be carried out."""

    status = 500
    code: ClassVar[str] = "server_error"
    """A stable name of the error for programs."""
    headers: Mapping[str, str] = MappingProxyType({})
    """To send along."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class InvalidRequestError(ApiError):
    """The request is not valid."""

    status = 400
    code = "invalid_request"
