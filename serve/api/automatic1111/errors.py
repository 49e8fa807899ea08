"""Errors in AUTOMATIC1111's form (``api_middleware`` in its ``modules/api/api.py``)."""

from __future__ import annotations

from fastapi.responses import JSONResponse

from serve.api.automatic1111.bodies import ErrorBody
from serve.api.automatic1111.requests import NAMES
from serve.http.problems import Problem

_FIELDS = {
    "model_id": "sd_model_checkpoint",
    "image": "init_images",
    **{f"settings.{name}": theirs for name, theirs in NAMES.items()},
}


def render_error(problem: Problem) -> JSONResponse:
    """Render an error in this dialect's form; a bad field has the status 422."""
    status = 422 if problem.status == 400 else problem.status
    return JSONResponse(error_body(problem).model_dump(), status, dict(problem.headers))


def error_body(problem: Problem) -> ErrorBody:
    """Return the body of an error."""
    named = problem.in_words_of(_FIELDS)
    return ErrorBody(error=named.code, detail=named.message, errors=named.message)
