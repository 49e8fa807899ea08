"""The official client of the Model Context Protocol, unmodified, in both forms of the protocol."""

from __future__ import annotations

import asyncio
import base64

import pytest
from mcp import Client

from deployments.jobs.records.jobs import JobState
from tests.support.service import shown

PROMPT = "a large red circle on a blue background"
SHOWN = ("circle", "red", "blue")
TOOLS = ["generate_image", "get_job", "cancel_job", "list_models", "search_gallery"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
class TestClient:
    async def test_connects_and_lists_tools(self, service, mode):
        async with Client(f"{service.url}/mcp", mode=mode) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == TOOLS
            models = (await client.call_tool("list_models", {})).structured_content
        assert models["default"] == "shapes"

    async def test_draws_and_tells_its_progress(self, service, mode):
        told = []

        async def note(progress, total, message):
            told.append((progress, total, message))

        async with Client(f"{service.url}/mcp", mode=mode) as client:
            arguments = {"prompt": PROMPT, "seed": 7, "num_inference_steps": 50}
            result = await client.call_tool("generate_image", arguments, progress_callback=note)
            found = await client.call_tool("search_gallery", {"search": PROMPT})

        job = result.structured_content
        assert not result.is_error
        assert shown(base64.b64decode(result.content[1].data)) == SHOWN
        assert told[0][:2] == (0, 50)
        assert job["job_id"] in told[0][2]
        assert job["images"][0]["id"] in [image["id"] for image in found.structured_content["images"]]
        assert service.status(job["job_id"])["status"] == "completed"

    async def test_cancels_a_job_by_its_id(self, service, mode):
        async with Client(f"{service.url}/mcp", mode=mode) as client:
            arguments = {"prompt": PROMPT, "num_inference_steps": 100, "num_images": 8, "wait": False}
            job_id = (await client.call_tool("generate_image", arguments)).structured_content["job_id"]
            result = await client.call_tool("cancel_job", {"job_id": job_id})
        assert not result.is_error
        await asyncio.to_thread(service.wait_until, job_id, "cancelled")

    async def test_a_failure_is_a_sentence(self, service, mode):
        async with Client(f"{service.url}/mcp", mode=mode) as client:
            result = await client.call_tool("generate_image", {"prompt": PROMPT, "num_images": 99})
        assert result.is_error
        assert result.content[0].text.startswith("settings.num_images: 99 is not possible")


async def test_giving_a_call_up_cancels_its_job(service):
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def note(_progress, _total, message):
        if not started.done():
            started.set_result(message.split()[1])

    async with Client(f"{service.url}/mcp") as client:
        arguments = {"prompt": PROMPT, "num_inference_steps": 100, "num_images": 8}
        call = asyncio.create_task(client.call_tool("generate_image", arguments, progress_callback=note))
        job_id = await started
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        status = await asyncio.to_thread(service.wait_until, job_id, "cancelled")
    assert status["status"] == JobState.CANCELLED
