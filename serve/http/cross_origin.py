"""Lets pages of other origins use the service (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from deployments.settings.protection import CorsSettings

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_READABLE = (
    "Content-Range",
    "ETag",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "X-Job-ID",
    "X-Request-ID",
)
_MAX_AGE_SECONDS = 600  # for which a browser may remember the answer to a preflight request


def add_cors(app: FastAPI, settings: CorsSettings) -> None:
    """Allow requests of other origins: with an API key in a header, never with cookies.

    Args:
        app: The application.
        settings: The allowed origins.
    """
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_methods=_METHODS,
        allow_headers=["*"],
        expose_headers=_READABLE,
        max_age=_MAX_AGE_SECONDS,
    )
