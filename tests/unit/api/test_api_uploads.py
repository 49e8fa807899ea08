"""Whatever file is sent as a picture, by whichever route: a clean picture is kept, or the answer is a 4xx."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.api_service import PROMPT, ApiService, api_service
from tests.support.dialects import next_claim, opened, picture
from tests.support.hostile_files import MOST_BYTES, MOST_PIXELS, REFUSED, SCRIPT, SIDEWAYS, TAKEN, UPRIGHT, damaged
from tests.unit.api.test_automatic1111 import CATALOG

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


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ApiService]:
    limits = {"max_upload_bytes": MOST_BYTES, "max_upload_pixels": MOST_PIXELS}
    async with api_service(tmp_path, CATALOG, **limits) as service, drawing(service):
        yield service


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


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
async def test_what_is_no_good_picture_is_refused_and_not_kept(service: ApiService, way: Way) -> None:
    answers = {name: await way(service, content) for name, (_, content) in REFUSED.items()}

    bad = 422 if "base64" in way.__name__ or "url" in way.__name__ else 400
    assert {name: answer.status_code for name, answer in answers.items()} == {
        name: bad if status == 400 else status for name, (status, _) in REFUSED.items()
    }
    assert len(kept_files(service)) == ("mask" in way.__name__)  # the picture to which the mask belongs
    assert (await service.tracker.counts.by_state()).total == 0


@pytest.mark.parametrize("way", PICTURES)
async def test_of_what_is_more_than_a_picture_the_picture_is_kept(service: ApiService, way: Way) -> None:
    answers = {name: (await way(service, content)).status_code for name, content in TAKEN.items()}

    assert answers == dict.fromkeys(TAKEN, 200)
    for path in kept_files(service):
        assert SCRIPT not in path.read_bytes()


@pytest.mark.parametrize("way", PICTURES)
async def test_a_picture_that_lies_on_its_side_is_turned(service: ApiService, way: Way) -> None:
    response = await way(service, SIDEWAYS)

    assert response.status_code == 200, response.text
    sizes = [opened(path.read_bytes()) for path in kept_files(service)]
    (kept,) = [image for image in sizes if image.size == UPRIGHT.size]
    assert np.abs(np.asarray(kept).astype(int) - np.asarray(UPRIGHT)).mean() < 5


@pytest.mark.filterwarnings("ignore")
async def test_no_damage_is_an_error_of_the_server(service: ApiService) -> None:
    for number, content in enumerate(damaged(200, seed=7)):
        way = WAYS[number % len(WAYS)]
        response = await way(service, content)
        assert response.status_code in (200, 400, 413, 415, 422), f"{number}, {way.__name__}: {response.text}"
