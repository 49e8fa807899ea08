"""Requests that are answered once their job has ended; the tests play the model replica meanwhile."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import PIL.Image

from deployments.jobs.records.jobs import Claim
from tests.support.api_service import ApiService
from tests.support.following import news_of


async def next_claim(service: ApiService, model_id: str = "shapes") -> Claim:
    """Wait for a job, and claim it."""
    (claim,) = await service.tracker.claim({model_id: 1}, "replica", str(uuid4()), 30)
    return claim


@asynccontextmanager
async def asked(request: Coroutine[Any, Any, httpx.Response]) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """A request that is under way; it is given up at the end of the block, if it still waits."""
    task = asyncio.create_task(request)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def drawn(service: ApiService, request: Coroutine[Any, Any, httpx.Response]) -> tuple[httpx.Response, Claim]:
    """Send a request that waits for its images, and make them; gives the answer and the job."""
    async with asked(request) as waiting:
        claim = await next_claim(service)
        await service.finish(claim)
        return await waiting, claim


async def cancellation(service: ApiService, claim: Claim) -> None:
    """Wait until a running job is to be cancelled."""
    job = await service.job(claim.job_id)
    while not job.cancel_requested:
        job = await news_of(service.tracker, job)


def picture(
    width: int = 64, height: int = 64, colour: Any = "red", kind: str = "PNG", mode: str = "RGB", **options: Any
) -> bytes:
    """A picture file of one colour."""
    file = io.BytesIO()
    PIL.Image.new(mode, (width, height), colour).save(file, kind, **options)
    return file.getvalue()


def opened(content: bytes) -> PIL.Image.Image:
    """A picture file, decoded."""
    image = PIL.Image.open(io.BytesIO(content))
    image.load()
    return image


def openai_error(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer in OpenAI's form, which is checked."""
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    error = response.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    return error
