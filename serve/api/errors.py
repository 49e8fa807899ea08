"""Errors of the edge, and how the CyberImage dialect renders them: ``{"status": "error", "message": ...}``."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from deployments.catalog import UnknownModelError
from deployments.jobs.exceptions import JobError, StoreUnavailableError
from deployments.storage.base import StorageError
from serve.api.field_problems import describe_problems

logger = logging.getLogger(__name__)

DATABASE_DOWN = "The job database cannot be used; the server's log says why."
_MESSAGES = {
    # What FastAPI and Starlette raise of themselves; a body that is JSON but not right has a sentence of its own.
    400: "body: it is not valid JSON in UTF-8.",
    404: "There is nothing at this address.",
    405: "This address does not take that method.",
}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class ApiError(Exception):
    """The request could not be carried out."""

    status = 500

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class InvalidRequestError(ApiError):
    """The request is not valid."""

    status = 400


class ErrorBody(BaseModel):
    """What every error of this dialect looks like."""

    status: str = Field(default="error", description="Always `error`.", examples=["error"])
    message: str = Field(
        description="One sentence that names the field and what would be right.",
        examples=["settings.num_inference_steps: 0 is not possible; this model takes 1 to 100."],
    )


def add_error_handlers(app: FastAPI) -> None:
    """Make an application answer the errors it expects in the dialect's form."""
    for known in (ApiError, JobError, StorageError, UnknownModelError):
        app.add_exception_handler(known, _known_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error answer.

    Args:
        status: The HTTP status.
        message: One sentence.
        headers: To send along.
    """
    return JSONResponse(ErrorBody(message=message).model_dump(), status_code=status, headers=headers)


def public_message(error: Exception) -> str:
    """What a client may read of an error. The place of the database is not for it: that goes to the log."""
    if isinstance(error, StoreUnavailableError):
        logger.warning("%s", error)
        return DATABASE_DOWN
    return str(error)


async def _known_error(_: Request, error: Exception) -> JSONResponse:
    retry_after = getattr(error, "retry_after_seconds", None)
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else None
    return error_response(getattr(error, "status", 500), public_message(error), headers)


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    return error_response(400, describe_problems(problems))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == 405 and (allowed := _allowed_methods(request)):
        headers["Allow"] = allowed
    return error_response(error.status_code, _MESSAGES.get(error.status_code, str(error.detail)), headers)


def _allowed_methods(request: Request) -> str:
    """Methods of every route of the path: the framework names those of the first route only."""
    app: FastAPI = request.app
    return ", ".join(
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in app.router.routes)
    )
