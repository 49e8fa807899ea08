"""Small pictures of images over HTTP."""

from __future__ import annotations

import io

import PIL.Image
import pytest

from deployments.storage.thumbnails import thumbnail_key
from tests.support.api_service import sentence

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def image(service):
    image, _ = await service.make_image()
    return image


@pytest.mark.parametrize(("query", "size"), [("", 256), ("?size=256", 256), ("?size=512", 512)])
async def test_it_is_the_one_that_was_made_with_the_image(service, image, query, size):
    await service.storage.write(thumbnail_key(image.key, size), b"made before")

    response = await service.http.get(f"/api/image/{image.id}/thumbnail{query}")

    assert (response.status_code, response.content) == (200, b"made before")
    assert response.headers["Content-Type"] == "image/webp"
    assert response.headers["ETag"] == f'"{image.sha256}-{size}"'
    assert "immutable" in response.headers["Cache-Control"]


async def test_one_that_is_missing_is_made_and_kept(service, image):
    key = thumbnail_key(image.key, 512)
    await service.storage.delete(key)

    response = await service.http.get(f"/api/image/{image.id}/thumbnail?size=512")

    with PIL.Image.open(io.BytesIO(response.content)) as small:
        assert (small.format, small.size) == ("WEBP", (8, 8))
    assert await service.storage.read(key) == response.content


async def test_a_copy_that_is_the_thumbnail_is_304(service, image):
    address = f"/api/image/{image.id}/thumbnail"
    tag = (await service.http.get(address)).headers["ETag"]

    assert (await service.http.get(address, headers={"If-None-Match": tag})).status_code == 304
    other = await service.http.get(f"{address}?size=512", headers={"If-None-Match": tag})
    assert other.status_code == 200


@pytest.mark.parametrize("size", ["300", "0", "-256", "99999999999999999999"])
async def test_other_sizes_are_400(service, image, size):
    response = await service.http.get(f"/api/image/{image.id}/thumbnail?size={size}")

    assert sentence(response, 400) == f"size: {size} is not possible; it is 256 or 512."


async def test_no_number_is_400(service, image):
    assert "size" in sentence(await service.http.get(f"/api/image/{image.id}/thumbnail?size=large"), 400)


async def test_an_image_deleted_behind_our_back_is_404(service, image):
    for path in service.images_dir.rglob("*-*.*"):
        path.unlink()

    response = await service.http.get(f"/api/image/{image.id}/thumbnail")

    assert sentence(response, 404) == f"There is no image file {image.key}."


async def test_a_damaged_image_is_told(service, image):
    await service.storage.write(image.key, b"damaged")
    await service.storage.delete(thumbnail_key(image.key, 256))

    response = await service.http.get(f"/api/image/{image.id}/thumbnail")

    assert sentence(response, 503) == f"The image file {image.key} is damaged."


async def test_unknown_is_404(service):
    assert sentence(await service.http.get(f"/api/image/{UNKNOWN}/thumbnail"), 404)


async def test_it_goes_with_its_image(service, image):
    await service.http.delete(f"/api/image/{image.id}")

    assert [path for path in service.images_dir.rglob("*.*") if path.is_file()] == []
    assert sentence(await service.http.get(f"/api/image/{image.id}/thumbnail"), 404)
