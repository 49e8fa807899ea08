"""The web page and its files."""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

WEB_FOLDER = Path(__file__).resolve().parent.parent / "web"
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class CheckedFiles(StaticFiles):
    """Files that a browser may keep but must ask about each time: their names stay when their content changes."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Starlette's answer, 304 included, with ``Cache-Control: no-cache`` and the page's policy."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Content-Security-Policy"] = PAGE_POLICY
        return response


def add_page(app: FastAPI) -> None:
    """Serve the page at ``/`` and its files under ``/static``."""
    files = CheckedFiles(directory=WEB_FOLDER)
    app.mount("/static", files, name="static")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)
