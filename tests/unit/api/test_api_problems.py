"""The form of errors: this dialect's, and another one's by the path that was asked for."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from httpx import ASGITransport, AsyncClient
from starlette.exceptions import HTTPException

from deployments.catalog.catalog import UnknownModelError
from deployments.jobs.records.exceptions import QueueFullError, UnknownJobError
from serve.api.errors import render_error
from serve.errors import InvalidRequestError
from serve.http.errors import add_error_handlers
from serve.http.problems import Problem, Renderers, field_named_in
from serve.protection.identity import NotAllowedError
from serve.protection.protection import UnauthenticatedError
from serve.protection.rate_limits import RateLimitedError

RAISED = {
    "invalid": InvalidRequestError("settings.width, settings.height: 9x9 is 81 pixels; at most 64."),
    "unknown": UnknownJobError(),
    "unknown-model": UnknownModelError("There is no model x."),
    "full": QueueFullError("Full.", retry_after_seconds=7),
    "limited": RateLimitedError("Slow down.", retry_after_seconds=9),
    "key": UnauthenticatedError(),
    "scope": NotAllowedError(),
    "teapot": HTTPException(418, "Short and stout."),
    "large": HTTPException(413, "Too large."),
}


def render_strangely(problem: Problem) -> Response:
    content = {"what": problem.message, "code": problem.code, "param": problem.param}
    return JSONResponse(content, problem.status, dict(problem.headers))


def raising(error: Exception):
    async def route(number: int = 0) -> None:
        raise error

    return route


@pytest.fixture
async def http():
    app = FastAPI()
    add_error_handlers(app, Renderers(render_error, {"/strange": render_strangely}))
    for prefix in ("", "/strange"):
        for name, error in RAISED.items():
            app.add_api_route(f"{prefix}/{name}", raising(error))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://service") as client:
        yield client


EXPECTED = {
    "invalid": (400, "invalid_request", "settings.width", {}),
    "unknown": (404, "unknown_job", None, {}),
    "unknown-model": (404, "not_found", None, {}),
    "full": (503, "queue_full", None, {"Retry-After": "7"}),
    "limited": (429, "rate_limited", None, {"Retry-After": "9"}),
    "key": (
        401,
        "missing_api_key",
        None,
        {"WWW-Authenticate": 'Bearer realm="CyberImage", Basic realm="CyberImage"'},
    ),
    "scope": (403, "not_allowed", None, {}),
    "teapot": (418, "http_error", None, {}),
    "large": (413, "body_too_large", None, {}),
}


@pytest.mark.parametrize("name", RAISED)
async def test_this_dialect_has_a_status_and_a_message(http, name):
    response = await http.get(f"/{name}")
    status, _, _, headers = EXPECTED[name]

    assert response.status_code == status
    assert response.json() == {"status": "error", "message": getattr(RAISED[name], "detail", str(RAISED[name]))}
    assert list(response.json()) == ["status", "message"]
    for header, value in headers.items():
        assert response.headers[header] == value


@pytest.mark.parametrize("name", RAISED)
async def test_another_dialect_has_code_and_field_too(http, name):
    response = await http.get(f"/strange/{name}")
    status, code, param, headers = EXPECTED[name]

    assert response.status_code == status
    assert (response.json()["code"], response.json()["param"]) == (code, param)
    for header, value in headers.items():
        assert response.headers[header] == value


async def test_fields_addresses_and_methods_that_are_wrong_are_told_in_its_form_too(http):
    wrong = await http.get("/strange/unknown?number=x")
    assert (wrong.status_code, wrong.json()["code"], wrong.json()["param"]) == (400, "invalid_request", "number")
    assert (await http.get("/strange/nothing")).json()["code"] == "not_found"
    post = await http.post("/strange/unknown")
    assert (post.json()["code"], post.headers["Allow"]) == ("method_not_allowed", "GET")


@pytest.mark.parametrize("path", ["/strangely", "/other/strange", "/"])
async def test_only_whole_parts_of_a_path_are_a_dialects(http, path):
    assert list((await http.get(path)).json()) == ["status", "message"]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("prompt: it is empty.", "prompt"),
        ("settings.width, settings.height: too large.", "settings.width"),
        ("jobs.3.prompt: it is empty.", "jobs.3.prompt"),
        ("There is no job 1.", None),
        ("The queue is full: try again.", None),
        ("", None),
    ],
)
def test_the_field_is_what_the_sentence_begins_with(message, field):
    assert field_named_in(message) == field
