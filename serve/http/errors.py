"""Turns errors into problems, which are answered in the form of the dialect that was asked."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from deployments.catalog.catalog import UnknownModelError
from deployments.jobs.records.exceptions import JobError, StoreUnavailableError
from deployments.storage.base import StorageError
from deployments.storage.picture import PictureError
from deployments.telemetry.measuring import note_rejection
from serve.errors import ApiError, InvalidRequestError
from serve.http.field_problems import describe_problems
from serve.http.problems import Problem, Renderers, answer_problem, field_named_in

logger = logging.getLogger(__name__)

DATABASE_DOWN = "The job database cannot be used; the server's log says why."
_MESSAGES = {
    # Errors that FastAPI and Starlette raise themselves.
    400: "body: it is not valid JSON in UTF-8.",
    404: "There is nothing at this address.",
    405: "This address does not take that method.",
}
_CODES = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_too_slow",
    413: "body_too_large",
    429: "too_many_bytes_at_once",
    504: "no_answer_in_time",
}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def add_error_handlers(app: FastAPI, renderers: Renderers) -> None:
    """Render expected errors in the form of the dialect that was asked.

    Args:
        app: The application.
        renderers: The dialects' forms of an error.
    """
    app.state.renderers = renderers
    for known in (ApiError, JobError, PictureError, StorageError, UnknownModelError):
        app.add_exception_handler(known, _known_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def problem_of(error: Exception) -> Problem:
    """Return an expected error as a problem; the status is its class's."""
    message = public_message(error)
    headers = dict(getattr(error, "headers", {}))
    retry_after = getattr(error, "retry_after_seconds", None)
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    status = getattr(error, "status", 500)
    return Problem(
        status=status,
        code=getattr(error, "code", "") or _CODES.get(status, "server_error"),
        message=message,
        param=field_named_in(message),
        headers=headers,
    )


def public_message(error: Exception) -> str:
    """Return the message for the client. The address of the database is only for the log."""
    if isinstance(error, StoreUnavailableError):
        logger.warning("%s", error)
        return DATABASE_DOWN
    return str(error)


async def _known_error(request: Request, error: Exception) -> Response:
    note_rejection(error)
    return answer_problem(request.scope, problem_of(error))


async def _validation_error(request: Request, error: Exception) -> Response:
    note_rejection(InvalidRequestError())
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    sentence = describe_problems(problems)
    return answer_problem(request.scope, Problem(400, InvalidRequestError.code, sentence, field_named_in(sentence)))


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == 405 and (allowed := _allowed_methods(request)):
        headers["Allow"] = allowed
    status = error.status_code
    message = _MESSAGES.get(status, str(error.detail))
    return answer_problem(request.scope, Problem(status, _CODES.get(status, "http_error"), message, headers=headers))


def _allowed_methods(request: Request) -> str:
    """The methods of all routes of the path; Starlette names those of the first one only."""
    app: FastAPI = request.app
    return ", ".join(
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in app.router.routes)
    )
