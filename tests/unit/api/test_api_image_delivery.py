"""Images in a bucket of a real S3 server, handed out by the service or by the bucket itself."""

from __future__ import annotations

import httpx
import pytest

from deployments.settings.service import Settings
from deployments.storage.opening import open_storage
from deployments.storage.thumbnails import thumbnail_key
from tests.support.api_service import api_service, sentence
from tests.support.storage_samples import PREFIX


@pytest.fixture
def bucket(s3):
    return s3.create_bucket()


@pytest.fixture
async def service(tmp_path, s3, bucket, request, monkeypatch):
    place = {"KIND": "s3", "BUCKET": bucket, "PREFIX": PREFIX, "ENDPOINT_URL": s3.url, "PATH_STYLE": "true"}
    for name, value in {**place, "REGION": "us-east-1", "URL_SECONDS": "600", "DELIVER": request.param}.items():
        monkeypatch.setenv(f"CYBERIMAGE_STORAGE__{name}", value)
    settings = Settings()
    async with api_service(tmp_path, storage=open_storage(settings.storage, settings.images_dir)) as service:
        yield service


STREAMED = pytest.mark.parametrize("service", ["stream"], indirect=True)
REDIRECTED = pytest.mark.parametrize("service", ["redirect"], indirect=True)


@STREAMED
class TestStream:
    async def test_whole_and_in_parts(self, service):
        image, content = await service.make_image()
        address = f"/api/image/{image.id}"

        assert (await service.http.get(address)).content == content
        part = await service.http.get(address, headers={"Range": "bytes=2-5"})
        assert (part.status_code, part.content) == (206, content[2:6])
        assert part.headers["Content-Range"] == f"bytes 2-5/{len(content)}"

    async def test_an_object_that_became_shorter_is_told(self, service, s3, bucket):
        image, _ = await service.make_image()
        s3.s3.put_object(Bucket=bucket, Key=PREFIX + image.key, Body=b"short")

        response = await service.http.get(f"/api/image/{image.id}", headers={"Range": "bytes=2-50"})

        assert sentence(response, 503) == f"The image file {image.key} is damaged: it is too short."

    async def test_an_object_deleted_behind_our_back_is_404(self, service, s3, bucket):
        image, _ = await service.make_image()
        for size in (256, 512):
            s3.s3.delete_object(Bucket=bucket, Key=PREFIX + thumbnail_key(image.key, size))
        s3.s3.delete_object(Bucket=bucket, Key=PREFIX + image.key)

        for address in (f"/api/image/{image.id}", f"/api/image/{image.id}/thumbnail"):
            assert sentence(await service.http.get(address), 404) == f"There is no image file {image.key}."
        assert (await service.http.delete(f"/api/image/{image.id}")).status_code == 200

    async def test_a_deleted_image_leaves_nothing(self, service, s3, bucket):
        image, _ = await service.make_image()

        assert (await service.http.delete(f"/api/image/{image.id}")).status_code == 200
        assert "Contents" not in s3.s3.list_objects_v2(Bucket=bucket)

    async def test_a_bucket_that_is_gone_is_told_by_health(self, service, s3, bucket):
        assert (await service.http.get("/health")).json()["storage"] == "ok"
        s3.s3.delete_bucket(Bucket=bucket)

        response = await service.http.get("/health")

        assert response.status_code == 503
        assert response.json()["storage"].endswith("the bucket does not exist.")

    async def test_the_page_loads_images_from_here_only(self, service, s3):
        assert s3.url not in (await service.http.get("/")).headers["Content-Security-Policy"]


@REDIRECTED
class TestRedirect:
    @pytest.mark.parametrize("route", ["/api/image", "/api/get_image"])
    async def test_a_client_is_sent_to_the_bucket(self, service, s3, bucket, route):
        image, content = await service.make_image()

        response = await service.http.get(f"{route}/{image.id}")

        assert (response.status_code, response.content) == (307, b"")
        assert response.headers["Cache-Control"] == "private, max-age=300"
        address = response.headers["Location"]
        assert address.startswith(f"{s3.url}/{bucket}/{PREFIX}{image.key}?")
        async with httpx.AsyncClient() as anyone:
            answer = await anyone.get(address, headers={"Range": "bytes=0-9"})
            assert answer.content == content[:10]
            assert (await anyone.get(address)).headers["Content-Type"] == "image/png"

    async def test_a_thumbnail_is_there_when_the_client_arrives(self, service):
        image, _ = await service.make_image()
        key = thumbnail_key(image.key, 512)
        await service.storage.delete(key)

        response = await service.http.get(f"/api/image/{image.id}/thumbnail?size=512")

        assert response.status_code == 307
        async with httpx.AsyncClient() as anyone:
            answer = await anyone.get(response.headers["Location"])
        assert answer.content == await service.storage.read(key)
        assert answer.headers["Content-Type"] == "image/webp"

    async def test_head_and_a_copy_that_is_the_image_are_answered_here(self, service):
        image, content = await service.make_image()
        address = f"/api/image/{image.id}"

        assert (await service.http.head(address)).headers["Content-Length"] == str(len(content))
        tag = {"If-None-Match": f'"{image.sha256}"'}
        assert (await service.http.get(address, headers=tag)).status_code == 304

    async def test_unknown_is_404(self, service):
        assert sentence(await service.http.get("/api/image/00000000-0000-4000-8000-000000000000"), 404)

    async def test_the_page_may_load_images_from_the_bucket(self, service, s3):
        policy = (await service.http.get("/")).headers["Content-Security-Policy"]

        assert f"img-src 'self' blob: data: {s3.url} " in policy
