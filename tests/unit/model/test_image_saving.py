"""What is kept of a finished picture."""

import asyncio
import hashlib
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from deployments.jobs.records.jobs import Claim, JobRequest
from deployments.model.saving import save_image
from deployments.parameters import GenerationSettings
from deployments.storage.base import StorageError
from deployments.storage.formats import FORMATS, available_formats
from deployments.storage.image_names import image_id
from deployments.storage.local import LocalStorage
from deployments.storage.metadata.image_file import read_metadata
from deployments.storage.thumbnails import delete_image_files, thumbnail_key

JOB = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
METADATA = {"prompt": "a castle"}
PICTURE = np.linspace(0, 1, 96 * 640 * 3, dtype=np.float32).reshape(96, 640, 3)


def claim(**settings: Any) -> Claim:
    known = {"num_images": 2, "num_inference_steps": 1, "guidance_scale": 1.0, "width": 640, "height": 96, "seed": 1}
    request = JobRequest(model_id="m", prompt="a castle", settings=GenerationSettings(**known | settings))
    return Claim(job_id=JOB, request=request, fence=1, created_at=datetime(2031, 2, 3, tzinfo=UTC))


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


async def keys_in(storage: LocalStorage) -> list[str]:
    return [found.key async for page in storage.pages() for found in page]


def opened(content: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(content))


@pytest.mark.parametrize("name", available_formats())
async def test_each_format(storage: LocalStorage, name: str) -> None:
    saved = await save_image(storage, claim(output_format=name), 1, PICTURE, METADATA)

    assert saved.id == image_id(JOB, 1)
    assert saved.key == f"2031/02/03/{saved.id}.{FORMATS[name].extension}"
    assert (saved.index, saved.media_type, saved.metadata) == (1, f"image/{name}", METADATA)
    content = await storage.read(saved.key)
    assert (saved.byte_count, saved.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert opened(content).size == (640, 96)
    assert read_metadata(content) == METADATA


async def test_quality_is_the_jobs(storage: LocalStorage) -> None:
    sizes = [
        (await save_image(storage, claim(output_format="jpeg", quality=quality), 0, PICTURE, METADATA)).byte_count
        for quality in (10, None, 100)
    ]

    assert sizes[0] < sizes[1] < sizes[2]


async def test_metadata_stay_in_the_record_when_the_file_has_none(storage: LocalStorage) -> None:
    saved = await save_image(storage, claim(metadata=False), 0, PICTURE, METADATA)

    assert read_metadata(await storage.read(saved.key)) == {}
    assert saved.metadata == METADATA


async def test_thumbnails_are_made_and_end_with_their_image(storage: LocalStorage) -> None:
    saved = await save_image(storage, claim(), 0, PICTURE, METADATA)

    for size, sides in ((256, (256, 38)), (512, (512, 77))):
        small = opened(await storage.read(thumbnail_key(saved.key, size)))
        assert (small.format, small.size) == ("WEBP", sides)
        assert "exif" not in small.info
    other = await save_image(storage, claim(), 1, PICTURE, METADATA)
    await delete_image_files(storage, saved.key)
    assert {key[11:47] for key in await keys_in(storage)} == {other.id}


async def test_a_small_picture_is_not_made_larger(storage: LocalStorage) -> None:
    saved = await save_image(storage, claim(), 0, PICTURE[:64, :64], METADATA)

    assert opened(await storage.read(thumbnail_key(saved.key, 512))).size == (64, 64)


async def test_an_image_is_kept_though_its_thumbnails_are_not(storage: LocalStorage) -> None:
    class NoThumbnails(LocalStorage):
        async def write(self, key: str, content: bytes) -> None:
            if key.endswith(".webp"):
                raise StorageError
            await super().write(key, content)

    saved = await save_image(NoThumbnails(storage._root), claim(), 0, PICTURE, METADATA)

    assert await keys_in(storage) == [saved.key]


async def test_other_work_goes_on_while_it_is_encoded(storage: LocalStorage) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await save_image(storage, claim(), 0, PICTURE, METADATA)
    ticking.cancel()

    assert ticks > 10
