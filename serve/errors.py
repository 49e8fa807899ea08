"""Errors that the edge raises itself; each carries its HTTP status."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from deployments.errors import CyberImageError


class ApiError(CyberImageError):
    """The request could not be carried out."""

    code = "server_error"
    headers: Mapping[str, str] = MappingProxyType({})
    """To send along."""


class InvalidRequestError(ApiError):
    """The request is not valid."""

    status = 400
    code = "invalid_request"
