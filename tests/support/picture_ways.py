"""The ways by which clients send pictures: each takes a file and gives the answer."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from deployments.catalog.catalog import Catalog
from deployments.catalog.entry import ModelEntry
from deployments.catalog.limits import SizeLimits
from tests.support.api_service import PROMPT, ApiService
from tests.support.dialects import next_claim, picture

CATALOG = Catalog(
    default="shapes",
    models={
        "shapes": ModelEntry(
            repo="owner/shapes",
            size=SizeLimits(default_width=64, default_height=64, multiple_of=8, minimum=8, maximum=2048),
            tasks=("image2image", "inpaint"),
        )
    },
)
GOOD = picture(64, 48)
Way = Callable[[ApiService, bytes], Awaitable[httpx.Response]]


async def as_input(service: ApiService, content: bytes) -> httpx.Response:
    return await service.http.post("/api/inputs", content=content, headers={"Content-Type": "image/png"})


async def as_file(service: ApiService, content: bytes) -> httpx.Response:
    files = {"image": ("picture.png", content, "image/png")}
    return await service.http.post("/v1/images/edits", files=files, data={"prompt": PROMPT})


async def as_mask_file(service: ApiService, content: bytes) -> httpx.Response:
    files = {"image": ("picture.png", GOOD), "mask": ("mask.png", content)}
    return await service.http.post("/v1/images/edits", files=files, data={"prompt": PROMPT})


async def in_base64(service: ApiService, content: bytes) -> httpx.Response:
    body = {"prompt": PROMPT, "init_images": [base64.b64encode(content).decode()]}
    return await service.http.post("/sdapi/v1/img2img", json=body)


async def as_data_url(service: ApiService, content: bytes) -> httpx.Response:
    body = {"prompt": PROMPT, "init_images": [f"data:image/png;base64,{base64.b64encode(content).decode()}"]}
    return await service.http.post("/sdapi/v1/img2img", json=body)


async def as_mask_in_base64(service: ApiService, content: bytes) -> httpx.Response:
    pictures = [base64.b64encode(each).decode() for each in (GOOD, content)]
    body = {"prompt": PROMPT, "init_images": pictures[:1], "mask": pictures[1]}
    return await service.http.post("/sdapi/v1/img2img", json=body)


PICTURES: list[Way] = [as_input, as_file, in_base64, as_data_url]
WAYS: list[Way] = [*PICTURES, as_mask_file, as_mask_in_base64]


@asynccontextmanager
async def drawing(service: ApiService) -> AsyncIterator[None]:
    """Make the images of all jobs as they come."""

    async def draw() -> None:
        while True:
            await service.finish(await next_claim(service))

    task = asyncio.create_task(draw())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def kept_files(service: ApiService) -> set[Path]:
    return set(service.images_dir.glob("*/*/*/*"))
