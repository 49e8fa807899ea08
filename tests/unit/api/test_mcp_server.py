"""The Model Context Protocol, message by message, in its old and its new form."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from deployments.jobs.records.api_keys import NewKey, Scope, hash_of, make_key
from deployments.jobs.records.jobs import JobPhase, JobState
from tests.support.api_service import PROMPT, api_service
from tests.support.dialects import asked, cancellation, next_claim

pytestmark = pytest.mark.timeout(60)

ACCEPT = {"Accept": "application/json, text/event-stream"}
MODERN = "2026-07-28"
TOOLS = ["generate_image", "get_job", "cancel_job", "list_models", "search_gallery"]


def messages_in(response):
    """The messages of an answer, whether it is JSON or a stream of events."""
    assert response.status_code == 200, response.text
    if response.headers["content-type"] == "application/json":
        return [response.json()]
    return [json.loads(line.removeprefix("data: ")) for line in response.text.splitlines() if line.startswith("data: ")]


def message(method, params=None, **meta):
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    if meta:
        body["params"]["_meta"] = meta
    return body


async def send(service, method, params=None, headers=None, **meta):
    return await service.http.post("/mcp", json=message(method, params, **meta), headers=ACCEPT | (headers or {}))


async def call(service, tool, headers=None, **arguments):
    """The result of a tool."""
    response = await send(service, "tools/call", {"name": tool, "arguments": arguments}, headers)
    return messages_in(response)[-1]["result"]


async def test_a_message_that_is_not_json_is_an_error_of_the_protocol(service):
    response = await service.http.post("/mcp", content=b"{}", headers=ACCEPT)

    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("Content-Type: ")


def sentence_of(result):
    """The sentence of a failure."""
    assert result["isError"] is True
    (content,) = result["content"]
    return content["text"]


class TestProtocol:
    async def test_shakes_hands_and_lists_tools_without_a_session(self, service):
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        response = await send(service, "initialize", hello)
        (answer,) = messages_in(response)
        (listed,) = messages_in(await send(service, "tools/list"))

        assert answer["result"]["serverInfo"]["name"] == "cyberimage"
        assert "tools" in answer["result"]["capabilities"]
        assert "mcp-session-id" not in response.headers
        assert [tool["name"] for tool in listed["result"]["tools"]] == TOOLS
        for tool in listed["result"]["tools"]:
            assert tool["description"]
            assert tool["inputSchema"]["type"] == "object"

    async def test_takes_messages_only(self, service):
        assert (await service.http.get("/mcp", headers=ACCEPT)).status_code == 405
        html = {"Accept": "text/html"}
        assert (await service.http.post("/mcp", json=message("tools/list"), headers=html)).status_code == 406
        broken = await service.http.post("/mcp", content=b"{", headers=ACCEPT | {"Content-Type": "application/json"})
        assert broken.status_code == 400

    async def test_tells_of_unknown_tools_and_bad_arguments(self, service):
        assert sentence_of(await call(service, "paint")).startswith('There is no tool "paint"; there are: generate')
        assert sentence_of(await call(service, "generate_image")) == "prompt: it is missing."
        assert sentence_of(await call(service, "generate_image", prompt="x", colour=1)).startswith(
            "colour: there is no"
        )
        unknown = sentence_of(await call(service, "generate_image", prompt="x", model="none"))
        assert unknown == 'model: there is no model "none"; available: shapes.'


class TestGenerateImage:
    async def test_answers_with_the_image_and_the_job(self, service):
        async with asked(send(service, "tools/call", {"name": "generate_image", "arguments": ARGUMENTS})) as waiting:
            claim = await next_claim(service)
            await service.finish(claim)
            (answer,) = messages_in(await waiting)
        (image,) = await service.tracker.images.of_jobs([claim.job_id])
        text, shown = answer["result"]["content"]
        told = answer["result"]["structuredContent"]

        assert (claim.request.settings.seed, claim.request.settings.num_inference_steps) == (7, 4)
        assert base64.b64decode(shown["data"]) == await service.storage.read(image.key)
        assert shown["mimeType"] == "image/png"
        assert json.loads(text["text"]) == told
        assert (told["job_id"], told["status"]) == (claim.job_id, "completed")
        assert told["images"][0]["url"] == f"http://localhost/api/image/{image.id}"

    async def test_tells_its_progress(self, service):
        params = {"name": "generate_image", "arguments": ARGUMENTS}
        async with asked(send(service, "tools/call", params, progressToken="p")) as waiting:
            claim = await next_claim(service)
            await service.report(claim, JobPhase.GENERATING, 2)
            await service.finish(claim)
            *progress, answer = messages_in(await waiting)

        assert answer["result"]["structuredContent"]["status"] == "completed"
        first = progress[0]["params"]
        assert progress[0]["method"] == "notifications/progress"
        assert (first["progressToken"], first["progress"], first["total"]) == ("p", 0, 4)
        assert claim.job_id in first["message"]

    async def test_need_not_wait(self, service):
        told = (await call(service, "generate_image", prompt=PROMPT, wait=False))["structuredContent"]
        assert (await service.job(told["job_id"])).state is JobState.PENDING

    async def test_a_failed_job_says_why(self, service):
        async with asked(call(service, "generate_image", prompt=PROMPT)) as waiting:
            claim = await next_claim(service)
            await service.tracker.fail(claim.job_id, claim.fence, "The model broke.", retryable=False)
            assert sentence_of(await waiting) == "The model broke."

    async def test_closing_the_stream_cancels_in_the_new_form(self, service):
        names = {"protocolVersion": MODERN, "clientCapabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        meta = {f"io.modelcontextprotocol/{name}": value for name, value in names.items()}
        params = {"name": "generate_image", "arguments": ARGUMENTS}
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "generate_image"}
        async with asked(send(service, "tools/call", params, headers, **meta)):
            claim = await next_claim(service)
        await cancellation(service, claim)

    async def test_a_lost_connection_does_not_in_the_old_form(self, service):
        async with asked(call(service, "generate_image", prompt=PROMPT)):
            claim = await next_claim(service)
        await service.finish(claim)
        assert (await service.job(claim.job_id)).state is JobState.COMPLETED


class TestOtherTools:
    async def test_jobs_are_looked_up_and_cancelled(self, service):
        job_id = await service.submit()
        assert (await call(service, "get_job", job_id=job_id))["structuredContent"]["queue_position"] == 1
        assert (await call(service, "cancel_job", job_id=job_id))["structuredContent"]["status"] == "cancelled"
        assert sentence_of(await call(service, "get_job", job_id="none")) == "There is no such job."

    async def test_a_completed_job_shows_its_images(self, service):
        image, content = await service.make_image()
        job_id = (await service.tracker.images.get(image.id)).job_id
        shown = await call(service, "get_job", job_id=job_id)
        without = await call(service, "get_job", job_id=job_id, include_images=False)

        assert base64.b64decode(shown["content"][1]["data"]) == content
        assert len(without["content"]) == 1

    async def test_models_and_images_are_found(self, service):
        image, _ = await service.make_image(prompt="a blue star")
        await service.make_image()
        models = (await call(service, "list_models"))["structuredContent"]
        found = (await call(service, "search_gallery", search="blue star"))["structuredContent"]

        assert (models["default"], list(models["models"])) == ("shapes", ["shapes"])
        assert ([one["id"] for one in found["images"]], found["total"]) == ([image.id], 1)


class TestKeys:
    @pytest.fixture
    async def protected(self, tmp_path):
        async with api_service(tmp_path, auth={"mode": "keys", "cache_seconds": 0}) as service:
            yield service

    async def key(self, service, name, *scopes):
        key_id, key = make_key()
        new = NewKey(name=name, scopes=scopes or (Scope.READ, Scope.GENERATE))
        await service.tracker.keys.add(key_id, hash_of(key), new, "root")
        return {"Authorization": f"Bearer {key}"}

    async def test_are_asked_for(self, protected):
        assert (await send(protected, "tools/list")).status_code == 401

    async def test_decide_what_may_be_done(self, protected):
        reader = await self.key(protected, "ann", Scope.READ)
        for tool, arguments in (("generate_image", {"prompt": PROMPT}), ("cancel_job", {"job_id": "x"})):
            sentence = sentence_of(await call(protected, tool, reader, **arguments))
            assert sentence == "Your API key may not do that: it needs the scope generate."

    async def test_show_their_owners_things_only(self, protected):
        ann, bob = await self.key(protected, "ann"), await self.key(protected, "bob")
        told = (await call(protected, "generate_image", ann, prompt=PROMPT, wait=False))["structuredContent"]
        await protected.finish(await next_claim(protected))

        async def total(headers):
            return (await call(protected, "search_gallery", headers))["structuredContent"]["total"]

        assert "There is no job" in sentence_of(await call(protected, "get_job", bob, job_id=told["job_id"]))
        assert await asyncio.gather(total(ann), total(bob)) == [1, 0]


ARGUMENTS = {"prompt": PROMPT, "seed": 7, "num_inference_steps": 4}
