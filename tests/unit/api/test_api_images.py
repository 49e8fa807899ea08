"""Fetching and deleting images over HTTP."""

from __future__ import annotations

import pytest

from deployments.storage.base import StorageError
from deployments.storage.local import LocalStorage
from tests.support.api_service import PROMPT, api_service, sentence

UNKNOWN = "00000000-0000-4000-8000-000000000000"
ROUTES = pytest.mark.parametrize("route", ["/api/image", "/api/get_image"])


@pytest.fixture
async def image(service):
    image, _ = await service.make_image(settings={"seed": 7, "num_images": 2})
    return image


@pytest.fixture
async def content(service, image):
    return await service.storage.read(image.key)


@ROUTES
class TestBytes:
    async def test_whole(self, service, image, content, route):
        response = await service.http.get(f"{route}/{image.id}")

        assert (response.status_code, response.content) == (200, content)
        assert response.headers["Content-Type"] == "image/png"
        assert response.headers["Content-Length"] == str(len(content))
        assert response.headers["ETag"] == f'"{image.sha256}"'
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["Accept-Ranges"] == "bytes"

    async def test_head_is_the_same_without_the_bytes(self, service, image, route):
        get = await service.http.get(f"{route}/{image.id}")
        head = await service.http.head(f"{route}/{image.id}", headers={"Range": "bytes=0-1"})

        assert (head.status_code, head.content) == (200, b"")
        for response in (get, head):
            del response.headers["X-Request-ID"]
        assert head.headers == get.headers

    @pytest.mark.parametrize("tags", ['"{tag}"', 'W/"{tag}"', '"other", "{tag}"', "*"])
    async def test_a_copy_that_is_the_image_is_304(self, service, image, route, tags):
        headers = {"If-None-Match": tags.format(tag=image.sha256), "Range": "bytes=0-1"}
        response = await service.http.get(f"{route}/{image.id}", headers=headers)

        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["ETag"] == f'"{image.sha256}"'
        assert "immutable" in response.headers["Cache-Control"]

    async def test_another_copy_is_answered_whole(self, service, image, content, route):
        response = await service.http.get(f"{route}/{image.id}", headers={"If-None-Match": '"other"'})

        assert (response.status_code, response.content) == (200, content)

    @pytest.mark.parametrize("image_id", [UNKNOWN, "1", "..%2F..%2Fetc%2Fpasswd", "%2e%2e", "%00", "a" * 5000])
    async def test_unknown_is_404(self, service, route, image_id):
        assert sentence(await service.http.get(f"{route}/{image_id}"), 404)
        assert (await service.http.head(f"{route}/{image_id}")).status_code == 404

    async def test_a_path_that_climbs_is_404(self, service, route):
        assert sentence(await service.http.get(f"{route}/../../../etc/passwd"), 404)

    async def test_a_file_that_is_gone_is_404(self, service, image, route):
        (service.images_dir / image.key).unlink()
        message = sentence(await service.http.get(f"{route}/{image.id}"), 404)

        assert message == f"There is no image file {image.key}."
        assert (await service.http.head(f"{route}/{image.id}")).status_code == 404


class TestRange:
    async def get(self, service, image, byte_range, **more):
        return await service.http.get(f"/api/image/{image.id}", headers={"Range": byte_range, **more})

    @pytest.mark.parametrize(
        ("byte_range", "start", "end"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=2-5", 2, 6),
            ("Bytes=2-5", 2, 6),
            ("bytes=10-", 10, None),
            ("bytes=-7", -7, None),
            ("bytes=5-999999999", 5, None),
            ("bytes=-999999999", 0, None),
        ],
    )
    async def test_a_part(self, service, image, content, byte_range, start, end):
        response = await self.get(service, image, byte_range)

        first, last = range(len(content))[start:end][0], range(len(content))[start:end][-1]
        assert (response.status_code, response.content) == (206, content[start:end])
        assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(content)}"
        assert response.headers["Content-Length"] == str(last - first + 1)
        assert response.headers["ETag"] == f'"{image.sha256}"'

    @pytest.mark.parametrize("byte_range", ["bytes=999999-", "bytes=999999-9999999", "bytes=-0"])
    async def test_no_such_part_is_416(self, service, image, content, byte_range):
        response = await self.get(service, image, byte_range)

        assert sentence(response, 416) == f"Range: the image has only {len(content)} bytes, from 0 on."
        assert response.headers["Content-Range"] == f"bytes */{len(content)}"
        assert "immutable" not in response.headers.get("Cache-Control", "")

    @pytest.mark.parametrize(
        "byte_range", ["bytes=0-1,3-4", "bytes=5-2", "bytes=-", "bytes=a-b", "lines=0-1", "", "bytes=" + "9" * 99 + "-"]
    )
    async def test_several_and_nonsense_are_answered_whole(self, service, image, content, byte_range):
        response = await self.get(service, image, byte_range)

        assert (response.status_code, response.content) == (200, content)

    async def test_if_range_decides_whether_the_part_fits(self, service, image):
        fitting = await self.get(service, image, "bytes=0-1", **{"If-Range": f'"{image.sha256}"'})
        other = await self.get(service, image, "bytes=0-1", **{"If-Range": '"other"'})

        assert (fitting.status_code, other.status_code) == (206, 200)


class TestMetadata:
    async def test_it_is_what_made_the_image(self, service, image):
        answer = (await service.http.get(f"/api/image/{image.id}/metadata")).json()

        keys = {"model_id", "prompt", "negative_prompt", "settings", "image_number", "total_images"}
        assert keys <= set(answer)
        assert (answer["model_id"], answer["prompt"], answer["settings"]["seed"]) == ("shapes", PROMPT, 7)
        assert (answer["image_number"], answer["total_images"]) == (1, 2)

    @pytest.mark.parametrize("image_id", [UNKNOWN, "1", "..%2Fa"])
    async def test_unknown_is_404(self, service, image_id):
        assert sentence(await service.http.get(f"/api/image/{image_id}/metadata"), 404)


class TestDelete:
    async def test_it_is_gone_for_good(self, service, image):
        response = await service.http.delete(f"/api/image/{image.id}")

        assert response.json() == {"status": "success", "message": "The image was deleted."}
        assert not await service.storage.exists(image.key)
        assert sentence(await service.http.get(f"/api/image/{image.id}"), 404)
        assert sentence(await service.http.get(f"/api/image/{image.id}/metadata"), 404)

    async def test_again_is_404(self, service, image):
        await service.http.delete(f"/api/image/{image.id}")

        assert sentence(await service.http.delete(f"/api/image/{image.id}"), 404).startswith("There is no image")

    async def test_the_other_images_stay(self, service, image):
        job_id = (await service.tracker.images.get(image.id)).job_id
        await service.http.delete(f"/api/image/{image.id}")

        (left,) = (await service.http.get(f"/api/status/{job_id}")).json()["images"]
        assert (await service.http.get(left["file_path"])).status_code == 200

    async def test_an_image_whose_file_is_gone_can_be_deleted(self, service, image):
        (service.images_dir / image.key).unlink()

        assert (await service.http.delete(f"/api/image/{image.id}")).status_code == 200

    async def test_one_that_failed_can_be_repeated(self, tmp_path):
        class Failing(LocalStorage):
            broken = True

            async def delete(self, key):
                if self.broken:
                    raise StorageError
                await super().delete(key)

        storage = Failing(tmp_path / "images")
        async with api_service(tmp_path, storage=storage) as service:
            image, _ = await service.make_image()

            assert sentence(await service.http.delete(f"/api/image/{image.id}"), 503) == "The image store failed."
            storage.broken = False
            assert (await service.http.delete(f"/api/image/{image.id}")).status_code == 200

    async def test_unknown_is_404(self, service):
        assert sentence(await service.http.delete(f"/api/image/{UNKNOWN}"), 404)


class TestReplay:
    async def test_the_image_is_asked_for_again_with_its_own_seed(self, service):
        first, _ = await service.make_image(
            negative_prompt="green", settings={"num_images": 2, "seed": 11, "num_inference_steps": 7}
        )
        second = (await service.tracker.images.of_jobs([(await service.tracker.images.get(first.id)).job_id]))[1]

        response = await service.http.post(f"/api/image/{second.id}/replay")

        assert response.status_code == 200
        assert list(response.json()) == ["job_id", "status", "num_images", "message"]
        request = (await service.job(response.json()["job_id"])).request
        assert (request.model_id, request.prompt, request.negative_prompt) == ("shapes", PROMPT, "green")
        settings = request.settings
        assert (settings.num_images, settings.seed, settings.num_inference_steps) == (1, 12, 7)

    async def test_an_unknown_image_is_404(self, service):
        assert sentence(await service.http.post(f"/api/image/{UNKNOWN}/replay"), 404)
