"""The OpenAPI document, and Swagger UI from this server's own files."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException

from serve.api.errors import ErrorBody
from serve.http.gate import RayHeaderError
from serve.http.page import CheckedFiles
from serve.protection.protection import UnauthenticatedError

TAGS: list[dict[str, Any]] = [
    {"name": "jobs", "description": "Submit a prompt, follow the job, cancel it."},
    {"name": "images", "description": "Fetch and delete the images of completed jobs."},
    {"name": "models", "description": "What can be drawn with."},
    {"name": "openai", "description": "For clients of OpenAI's Images API."},
    {"name": "automatic1111", "description": "For clients of AUTOMATIC1111's web UI."},
    {"name": "mcp", "description": "For clients of the Model Context Protocol."},
    {"name": "admin", "description": "Pause, clear and reset queues, and see who did what."},
    {"name": "service", "description": "Whether the service works."},
]


def _refusal(description: str, message: str) -> dict[str, Any]:
    example = {"status": "error", "message": message}
    schema = ErrorBody.model_json_schema()
    return {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}


# Answers that every route may give.
_BAD_HEADER = {"400": _refusal("A header is not for clients.", str(RayHeaderError("x-request-timeout-seconds")))}
_REFUSALS = {
    "401": _refusal("No API key, or a wrong one.", str(UnauthenticatedError())),
    "403": _refusal("The API key is not for this.", "Your API key may not do that: it needs the scope generate."),
    "429": _refusal(
        "Too many requests; `Retry-After` has the seconds.",
        "There were more than 60 requests in a minute; try again in 12 s.",
    ),
}
_OTHER_DIALECTS = ("/v1/", "/sdapi/v1/")  # they describe refusals in their own form
_VIEWER_FILES = ("swagger-ui-bundle.js", "swagger-ui.css")
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def add_documentation(app: FastAPI) -> None:
    """Serve Swagger UI at ``/docs``, and have ``/openapi.json`` describe the errors as they are."""
    viewer = CheckedFiles(directory=str(files("fastapi_offline").joinpath("static")))

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def documentation() -> Response:
        return _viewer_page(app.title)

    @app.api_route("/docs/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def viewer_file(request: Request, name: str) -> Response:
        if name not in _VIEWER_FILES:
            raise HTTPException(404)
        return await viewer.get_response(name, request.scope)

    _describe_errors_truly(app)


def _viewer_page(title: str) -> Response:
    """Return Swagger UI's page. Its addresses are relative, so it works behind a proxy's prefix too."""
    script, style = (f"docs/{name}" for name in _VIEWER_FILES)
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{title} API",
        swagger_js_url=script,
        swagger_css_url=style,
        swagger_favicon_url="static/favicon.svg",
        swagger_ui_parameters={"validatorUrl": None, "displayRequestDuration": True},
    )
    hashes = " ".join(_source_hash(text) for text in _INLINE_SCRIPT.findall(bytes(page.body).decode()))
    page.headers["Cache-Control"] = "no-cache"
    page.headers["Content-Security-Policy"] = (
        f"default-src 'self'; script-src 'self' {hashes}; img-src 'self' data: blob:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    return page


def _source_hash(script: str) -> str:
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


def _describe_errors_truly(app: FastAPI) -> None:
    """Replace FastAPI's own 422 in the OpenAPI document: a bad field gives 400, a bad id 404.

    Add what all routes answer to a bad header, and what protected routes answer without an API key.
    """
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        for path, operations in document["paths"].items():
            own_form = path.startswith(_OTHER_DIALECTS)
            for operation in operations.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
                refusals = ({} if own_form else _BAD_HEADER) | (_REFUSALS if "security" in operation else {})
                operation["responses"] = refusals | operation["responses"]
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
