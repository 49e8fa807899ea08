"""Errors in OpenAI's form (https://platform.openai.com/docs/guides/error-codes)."""

from __future__ import annotations

from fastapi.responses import JSONResponse

from serve.api.openai.bodies import NAMES, ErrorBody, ErrorDetails
from serve.errors import ApiError
from serve.http.problems import Problem

_FIELDS = {
    "model_id": "model",
    **{f"settings.{name}": theirs for name, theirs in NAMES.items()},
}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ModelNotFoundError(ApiError):
    """There is no such model."""

    status = 404
    code = "model_not_found"


def render_error(problem: Problem) -> JSONResponse:
    """Render an error in this dialect's form.

    OpenAI's client repeats requests that failed with 408, 409, 429 or 5xx. Where that would do the work twice or
    change nothing, a header forbids it; for a model that is being loaded, Retry-After allows it.
    """
    headers = dict(problem.headers)
    has_job = problem.job_id is not None and "Retry-After" not in headers
    if has_job or problem.status == 409:
        headers["x-should-retry"] = "false"
    return JSONResponse(error_body(problem).model_dump(), problem.status, headers)


def error_body(problem: Problem) -> ErrorBody:
    """Return the body of an error."""
    named = problem.in_words_of(_FIELDS)
    kind = _TYPES.get(named.status, "server_error" if named.status >= 500 else "invalid_request_error")
    return ErrorBody(error=ErrorDetails(message=named.message, type=kind, param=named.param, code=named.code))
