"""Pages of other sites that may use the service from a browser (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

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
    """Let other sites' pages in, with an API key in a header; never with what a browser sends along by itself.

    Args:
        app: Where to.
        settings: Which sites.
    """
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_methods=_METHODS,
        allow_headers=["*"],
        expose_headers=_READABLE,
        max_age=_MAX_AGE_SECONDS,
    )
