"""Dates, numbers and texts at their edges, in every parameter and field of every route, on each kind of database."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from contextlib import suppress
from functools import cache
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest

from deployments.jobs.records.api_keys import NewKey, Scope, hash_of, make_key
from deployments.settings.service import Settings
from serve.application import build_api
from serve.services.enrichment import Enricher
from serve.services.services import Services
from tests.support.api_service import CPU_CATALOG, PROJECT, ApiService, api_service, sentence
from tests.support.hostile_values import NUMBERS, TEXTS, TIMES, WHOLE_NUMBERS, HostileRequest, hostile_requests

LANGUAGE_MODEL = {"base_url": "http://language-model/v1", "model": "any"}


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document of the whole application."""
    return build_api(Services(Settings(data_dir=PROJECT / "data"), CPU_CATALOG, None, None)).openapi()


ROUTES = [
    (method, path)
    for path, methods in document()["paths"].items()
    for method, operation in methods.items()
    if operation.get("parameters") or "requestBody" in operation
]


async def draw_forever(service: ApiService) -> None:
    """End each job at once, so that no request waits for one."""
    while True:
        await service.tracker.administration.resume("shapes", "test")  # which a request may have paused
        for claim in await service.tracker.claim({"shapes": 10}, "replica", str(uuid4()), wait_seconds=1.0):
            with suppress(AssertionError):  # it was cancelled, or forgotten
                await service.finish(claim)


@pytest.fixture
async def service(tmp_path, database_url):
    settings = {"auth": {"mode": "keys", "cache_seconds": 300}, "enrich": LANGUAGE_MODEL}
    async with api_service(tmp_path, database_url=database_url, queue_limit=10**9, **settings) as service:
        written = {"choices": [{"message": {"content": "a castle"}}]}
        model = httpx.MockTransport(lambda _: httpx.Response(200, json=written))
        services = service.app.state.services
        vars(services)["enricher"] = Enricher(services.settings.enrich, model)
        key_id, key = make_key()
        new = NewKey(name="attacker", scopes=(Scope.ADMIN,))
        await service.tracker.keys.add(key_id, hash_of(key), new, "test")
        service.http.headers["Authorization"] = f"Bearer {key}"
        yield service


async def status_of(service: ApiService, request: HostileRequest) -> int:
    """Send a request, and hang up when the answer begins: some streams have no end."""
    statuses: list[int] = []
    begun = asyncio.Event()
    sent = iter([{"type": "http.request", "body": request.content, "more_body": False}])

    async def receive() -> dict[str, Any]:
        if (message := next(sent, None)) is not None:
            return message
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
            begun.set()

    built = service.http.build_request(request.method, f"http://service{request.path}?{request.query}")
    raw_path = built.url.raw_path.partition(b"?")[0]
    headers = {**built.headers, **{name.lower(): value for name, value in request.headers.items()}}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": request.method.upper(),
        "scheme": "http", "path": built.url.path, "raw_path": raw_path, "query_string": request.query.encode(),
        "root_path": "", "client": ("10.1.2.3", 4567), "server": ("service", 80),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }  # fmt: skip
    await service.app(scope, receive, send)
    return statuses[0]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("method", "path"), ROUTES, ids=[f"{method} {path}" for method, path in ROUTES])
async def test_no_value_is_answered_with_an_error_of_the_server(service, method, path):
    drawing = asyncio.create_task(draw_forever(service))
    job_id = await service.submit()
    while not (images := (await service.http.get(f"/api/status/{job_id}?wait=30")).json()["images"]):
        pass
    ids = {"job_id": job_id, "image_id": images[0]["id"], "tag": "a", "key_id": "0" * 12}
    ids |= dict.fromkeys(("model", "model_id"), "shapes")

    failed = [
        f"{status} {request}"
        for request in hostile_requests(document(), method, path, ids)
        if (status := await status_of(service, request)) >= 500
    ]

    drawing.cancel()
    await asyncio.wait([drawing])
    assert not failed, "\n".join(failed[:40])


HEADERS = (
    "Accept", "Accept-Encoding", "Authorization", "Content-Length", "Content-Type", "Cookie", "Host", "If-None-Match",
    "Last-Event-ID", "Origin", "Range", "Referer", "Sec-Fetch-Site", "Traceparent", "X-API-Key", "X-Forwarded-For",
    "X-Forwarded-Proto",
)  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
async def test_no_header_is_answered_with_an_error_of_the_server(service, name):
    values = [
        *TIMES,
        *WHOLE_NUMBERS,
        *NUMBERS,
        *TEXTS,
        "Basic \xff",
        "Basic Og==",
        "Bearer \xff",
        "bytes=0-" + "9" * 5000,
    ]
    requests = [
        HostileRequest("get", path, name, headers={name: value})
        for path in ("/api/models", "/api/jobs", "/static/page.js")
        for value in values
        if all(" " <= letter <= "\xff" for letter in value)
    ]

    assert [str(request) for request in requests if await status_of(service, request) >= 500] == []


@pytest.mark.parametrize("expires", [*TIMES, *WHOLE_NUMBERS, *NUMBERS, *TEXTS])
async def test_a_link_that_never_was_is_refused(service, expires):
    del service.http.headers["Authorization"]
    for signature in ("", "\0", "0" * 64, expires):
        query = urlencode({"expires": expires, "signature": signature}, errors="surrogatepass")
        request = HostileRequest("get", "/api/image/00000000-0000-4000-8000-000000000000", "expires", query=query)
        assert await status_of(service, request) in (401, 403)


OUTSIDE = "it is outside the years 1 to 9999 in UTC."
NO_TAG = "control characters and / are not possible in it; letters and spaces are."
NUL = "the character NUL is not allowed."


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("get", "/api/jobs?created_after=9999-12-31T23:59:59-23:59", f"created_after: {OUTSIDE}"),
        ("get", "/api/jobs?created_before=0001-01-01T00:00:00%2B14:00", f"created_before: {OUTSIDE}"),
        ("get", "/api/gallery?created_before=9999-12-31T23:59:59-23:59", f"created_before: {OUTSIDE}"),
        ("get", "/api/jobs?model=a%00b", f"model: {NUL}"),
        ("get", "/api/jobs?client=%00", f"client: {NUL}"),
        ("get", "/api/gallery?search=red%00", f"search: {NUL}"),
        ("get", "/api/gallery?owner=%00", f"owner: {NUL}"),
        ("get", "/api/gallery?tag=%00", f"tag: {NO_TAG}"),
        ("post", "/api/queue/a%00b/resume", f"model_id: {NUL}"),
        ("delete", "/api/keys/%00", f"key_id: {NUL}"),
    ],
)
async def test_the_sentence_names_the_field_and_what_is_possible(service, method, path, message):
    assert sentence(await service.http.request(method, path), 400) == message


@pytest.mark.parametrize("path", ["/api/jobs", "/api/gallery", "/api/audit"])
@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+14:00", "2030-01-01T00:00:00"])
async def test_a_cursor_beyond_the_calendar_is_none(service, path, at):
    cursor = urlsafe_b64encode(f"1/{at}".encode()).decode().rstrip("=")

    assert sentence(await service.http.get(path, params={"cursor": cursor}), 400).startswith("cursor: ")


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_the_first_and_the_last_time_of_the_calendar_are_times(service, at):
    for path in ("/api/jobs", "/api/gallery"):
        for name in ("created_after", "created_before"):
            assert (await service.http.get(path, params={name: at})).status_code == 200


async def test_a_call_is_not_repeated_to_half_of_a_surrogate_pair(service):
    call = '{"jsonrpc": "2.0", "id": "\\ud800", "method": "context.image_generation.models"}'
    answer = (await service.http.post("/api/mcp", content=call)).json()

    assert answer["error"]["message"] == "id: it is not a text of valid Unicode and not a number."
    assert answer["id"] is None
