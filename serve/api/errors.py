"""Errors in the CyberImage dialect's form: ``{"status": "error", "message": ...}``."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from serve.http.problems import Problem


class ErrorBody(BaseModel):
    """What every error of this dialect looks like."""

    status: str = Field(default="error", description="Always `error`.", examples=["error"])
    message: str = Field(
        description="One sentence that names the field and what would be right.",
        examples=["settings.num_inference_steps: 0 is not possible; this model takes 1 to 100."],
    )


def render_error(problem: Problem) -> JSONResponse:
    """Render an error in this dialect's form."""
    body = ErrorBody(message=problem.message).model_dump()
    return JSONResponse(body, status_code=problem.status, headers=dict(problem.headers))
