"""The earlier CyberImage's JSON-RPC 2.0 (https://www.jsonrpc.org/specification): models, generate, status.

That project called it "Model Context Protocol"; the protocol of that name is at ``/mcp``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from deployments.catalog.catalog import UnknownModelError
from deployments.jobs.records.exceptions import JobError
from deployments.telemetry.measuring import note_rejection
from serve.api.cyberimage import answers, examples, service
from serve.api.cyberimage.bodies import StatusAnswer
from serve.api.cyberimage.parameters import Behind, own_view
from serve.errors import ApiError
from serve.http.access import MAY_SUBMIT, READS, Who
from serve.http.errors import problem_of
from serve.http.field_problems import describe_problems
from serve.protection.identity import Identity
from serve.services.services import Services
from serve.submission.fields import Body, Text
from serve.submission.request import GenerateBody
from serve.submission.settings import SettingsBody
from serve.submission.waiting import submit_for

_PARSE_ERROR, _INVALID_REQUEST, _UNKNOWN_METHOD, _INVALID_PARAMS, _SERVER_ERROR = -32700, -32600, -32601, -32602, -32000
_PREFIX = "context.image_generation."

CALL: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": f"{_PREFIX}generate",
    "params": {"prompt": "a large red circle on a blue background", "settings": {"seed": 7}},
}
RESULT: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "result": {"job_id": examples.GENERATE["job_id"], "status": "pending", "num_images": 1},
}


class GenerateParams(Body):
    """A job; settings as in ``POST /api/generate``."""

    prompt: Text
    negative_prompt: Text | None = None
    model: Text | None = None
    settings: SettingsBody | None = None


class StatusParams(Body):
    """Which job."""

    job_id: Text


class NoParams(Body):
    """Nothing."""


class CallAnswer(BaseModel):
    """A result, or an error: ``code`` is one of JSON-RPC's, ``data`` has the HTTP status and the name of the error."""

    jsonrpc: str = "2.0"
    id: Any = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = Field(default=None)


class RpcError(Exception):
    """The call was not carried out."""

    def __init__(self, code: int, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


# What an answer can repeat: half of a surrogate pair it cannot.
_IDENTITY: TypeAdapter[Text | int | float | None] = TypeAdapter(Text | int | float | None)

router = APIRouter()


@router.post(
    "/api/mcp",
    dependencies=[READS],
    tags=["jobs"],
    openapi_extra=examples.json_call(CALL),
    response_model_exclude_unset=True,
    responses={200: examples.answer(RESULT), 413: answers.BAD[413]},
)
async def call(behind: Behind, request: Request, who: Who) -> CallAnswer:
    """JSON-RPC 2.0 for clients of the earlier CyberImage: `context.image_generation.models`, `.generate`, `.status`.

    Errors are JSON-RPC's too, with the status 200. Clients of the Model Context Protocol connect to `/mcp`.
    """
    identity: Any = None
    try:
        asked = _parsed(await request.body())
        identity = asked.get("id")
        result = await _carry_out(behind, request, who, asked)
    except RpcError as error:
        problem = {"code": error.code, "message": str(error)} | ({"data": error.data} if error.data else {})
        return CallAnswer(jsonrpc="2.0", id=identity, error=problem)
    return CallAnswer(jsonrpc="2.0", id=identity, result=result)


async def _carry_out(behind: Services, request: Request, who: Identity, asked: dict[str, Any]) -> dict[str, Any]:
    known = _METHODS.get(str(asked.get("method")).removeprefix(_PREFIX))
    if known is None or not str(asked.get("method")).startswith(_PREFIX):
        names = ", ".join(f"{_PREFIX}{name}" for name in _METHODS)
        raise RpcError(_UNKNOWN_METHOD, f"method: there is no such method; there are: {names}.")
    kind, method = known
    try:
        params = kind.model_validate(asked.get("params", {}))
        return await method(behind, request, who, params)
    except ValidationError as error:
        problems = [
            {**problem, "loc": ("call", "params", *problem["loc"])} for problem in error.errors(include_url=False)
        ]
        raise RpcError(_INVALID_PARAMS, describe_problems(problems)) from None
    except (ApiError, JobError, UnknownModelError) as error:
        note_rejection(error)
        problem = problem_of(error)
        code = _INVALID_PARAMS if problem.status in (400, 404) else _SERVER_ERROR
        data = {"status": problem.status, "code": problem.code, "headers": dict(problem.headers)}
        raise RpcError(code, problem.message, data) from error


async def _models(behind: Services, _request: Request, _who: Identity, _params: NoParams) -> dict[str, Any]:
    return (await service.models(behind)).model_dump(mode="json")


async def _generate(behind: Services, request: Request, who: Identity, params: GenerateParams) -> dict[str, Any]:
    await MAY_SUBMIT(request)
    body = GenerateBody(
        model_id=params.model or behind.catalog.default,
        prompt=params.prompt,
        negative_prompt=params.negative_prompt,
        settings=params.settings,
    )
    job = await submit_for(request, behind, body, who)
    return {"job_id": job.id, "status": job.state, "num_images": job.request.settings.num_images}


async def _status(behind: Services, _request: Request, who: Identity, params: StatusParams) -> dict[str, Any]:
    answer = StatusAnswer.of(await own_view(behind, who, params.job_id)).model_dump(mode="json")
    answer["job_id"], answer["model"] = answer.pop("id"), answer.pop("model_id")
    answer["images"] = [
        {"id": image["id"], "url": f"/api/get_image/{image['id']}", "metadata": image["metadata"]}
        for image in answer["images"]
    ]
    return answer


_Method = Callable[[Services, Request, Identity, Any], Awaitable[dict[str, Any]]]
_METHODS: dict[str, tuple[type[Body], _Method]] = {
    "models": (NoParams, _models),
    "generate": (GenerateParams, _generate),
    "status": (StatusParams, _status),
}


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise RpcError(_PARSE_ERROR, "body: it is not valid JSON in UTF-8.") from None
    if not isinstance(asked, dict) or asked.get("jsonrpc") != "2.0" or not isinstance(asked.get("method"), str):
        raise RpcError(_INVALID_REQUEST, 'body: it is no request of JSON-RPC 2.0: "jsonrpc": "2.0" and "method".')
    try:
        _IDENTITY.validate_python(asked.get("id"))
    except ValidationError:
        raise RpcError(_INVALID_REQUEST, "id: it is not a text of valid Unicode and not a number.") from None
    return asked
