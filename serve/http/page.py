"""The web page and its files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

WEB_FOLDER = Path(__file__).resolve().parent.parent / "web"


class CheckedFiles(StaticFiles):
    """Files that a browser may cache but must revalidate each time: their names stay when their content changes.

    Args:
        directory: The folder with the files.
        image_sources: Other origins that a page may load images from.
    """

    def __init__(self, directory: str | Path, image_sources: Sequence[str] = ()) -> None:
        super().__init__(directory=directory)
        images = " ".join(("'self'", "blob:", "data:", *image_sources))
        self._policy = (
            f"default-src 'self'; img-src {images}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        )

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return Starlette's answer, also a 304, with ``Cache-Control: no-cache`` and the policy."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Content-Security-Policy"] = self._policy
        return response


def add_page(app: FastAPI, image_sources: Sequence[str]) -> None:
    """Serve the page at ``/`` and its files under ``/static``.

    Args:
        app: The application.
        image_sources: Other origins that serve images.
    """
    files = CheckedFiles(WEB_FOLDER, image_sources)

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        response = await files.get_response("index.html", scope)
        await response(scope, receive, send)

    # Only the page's own files are compressed: images are compressed already, and events must not be delayed.
    app.mount("/static", GZipMiddleware(files), name="static")
    app.router.routes.append(Route("/", GZipMiddleware(page), methods=["GET"], include_in_schema=False))
