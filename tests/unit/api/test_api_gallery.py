"""The gallery over HTTP, and what can be done with many images."""

from __future__ import annotations

import io
import zipfile

import pytest

from deployments.storage.base import StorageError
from deployments.storage.local import LocalStorage
from serve.api.cyberimage import gallery_examples
from tests.support.api_service import PROMPT, WIDE_CATALOG, api_service, sentence
from tests.unit.api.test_api_images import UNKNOWN


async def gallery(service, query: str = "", **headers) -> dict:
    response = await service.http.get(f"/api/gallery{query}", headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


class TestGallery:
    async def test_it_has_the_seeds_shape_and_more(self, service):
        image, _ = await service.make_image(settings={"seed": 7})
        answer = await gallery(service)
        (shown,) = answer["images"]
        assert list(answer) == list(gallery_examples.GALLERY)
        assert list(shown) == list(gallery_examples.GALLERY["images"][0])
        assert (shown["id"], shown["model_id"], shown["prompt"]) == (image.id, "shapes", PROMPT)
        assert (shown["media_type"], shown["settings"]["seed"], shown["favourite"]) == ("image", 7, False)
        assert (answer["page"], answer["limit"], answer["total"], answer["has_more"]) == (1, 20, 1, False)
        assert (await service.http.get(shown["file_path"])).status_code == 200

    async def test_pages_by_number_and_by_cursor(self, service):
        made = [(await service.make_image())[0].id for _ in range(3)]
        first = await gallery(service, "?limit=2")
        assert ([shown["id"] for shown in first["images"]], first["has_more"], first["total"]) == (
            [made[2], made[1]], True, 3
        )  # fmt: skip
        for query in ("?limit=2&page=2", f"?limit=2&cursor={first['next_cursor']}"):
            last = await gallery(service, query)
            assert [shown["id"] for shown in last["images"]] == [made[0]]
            assert (last["has_more"], last["next_cursor"]) == (False, None)

    async def test_more_than_fifty_are_taken_for_fifty(self, service):
        assert (await gallery(service, "?limit=1000"))["limit"] == 50

    async def test_filters(self, service):
        image, _ = await service.make_image(prompt="a Blue ring")
        await service.make_image(prompt="a red square")
        await service.http.put(f"/api/image/{image.id}/favourite")
        await service.http.put(f"/api/image/{image.id}/tags/Best of")
        told = [
            "search=blue+shapes", "search=RIN", "favourite=true", "tag=best+of", "size=64x64&search=ring",
            "owner=10.1.2.3&search=blue", "model=shapes&search=ring",
        ]  # fmt: skip
        for query in told:
            answer = await gallery(service, f"?{query}")
            assert [shown["id"] for shown in answer["images"]] == [image.id], query
            assert answer["total"] == 1
        for query in ("search=green", "tag=best", "size=64x65", "owner=nobody", "model=other"):
            assert (await gallery(service, f"?{query}"))["images"] == []
        created = image_time = (await gallery(service, "?search=ring"))["images"][0]["created_at"]
        assert len((await gallery(service, f"?created_before={created}"))["images"]) == 0
        assert len((await gallery(service, f"?created_after={image_time}"))["images"]) >= 1

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("page=0", "page"),
            ("limit=0", "limit"),
            ("size=big", "size"),
            ("favourite=maybe", "favourite"),
            ("created_after=yesterday", "created_after"),
            ("cursor=abc", "cursor"),
            ("tag=" + "a" * 65, "tag"),
            ("search=" + "a" * 1001, "search"),
        ],
    )
    async def test_what_cannot_be_is_named(self, service, query, field):
        assert sentence(await service.http.get(f"/api/gallery?{query}"), 400).startswith(f"{field}: ")


class TestMarks:
    async def test_a_favourite_and_back(self, service):
        image, _ = await service.make_image()
        for method, is_favourite in (("PUT", True), ("PUT", True), ("DELETE", False), ("DELETE", False)):
            response = await service.http.request(method, f"/api/image/{image.id}/favourite")
            assert response.status_code == 200
            assert (await gallery(service))["images"][0]["favourite"] is is_favourite

    async def test_tags(self, service):
        image, _ = await service.make_image()
        place = f"/api/image/{image.id}/tags"
        assert (await service.http.put(f"{place}/ Blue  Things ")).json() == {"tags": ["blue things"]}
        assert (await service.http.put(f"{place}/a")).json() == {"tags": ["a", "blue things"]}
        assert (await service.http.get("/api/tags")).json()["tags"][1] == {"tag": "blue things", "images": 1}
        assert (await service.http.delete(f"{place}/BLUE things")).json() == {"tags": ["a"]}
        assert (await service.http.delete(f"{place}/never")).json() == {"tags": ["a"]}

    @pytest.mark.parametrize("tag", ["a" * 65, "%20", "a%00b", "a%1b"])
    async def test_a_tag_that_cannot_be(self, service, tag):
        image, _ = await service.make_image()
        assert sentence(await service.http.put(f"/api/image/{image.id}/tags/{tag}"), 400).startswith("tag: ")

    @pytest.mark.parametrize("path", ["favourite", "tags/a"])
    async def test_of_no_image(self, service, path):
        for method in ("PUT", "DELETE"):
            assert sentence(await service.http.request(method, f"/api/image/{UNKNOWN}/{path}"), 404)


class TestManyAtOnce:
    async def test_they_are_deleted_with_their_files(self, service):
        images = [(await service.make_image())[0] for _ in range(3)]
        ids = [images[0].id.upper(), images[1].id, UNKNOWN, "x"]
        answer = (await service.http.post("/api/images/delete", json={"ids": ids})).json()
        assert answer == {
            "status": "success",
            "deleted": [images[0].id, images[1].id],
            "missing": [UNKNOWN, "x"],
            "message": "2 images were deleted.",
        }
        assert [await service.storage.exists(image.key) for image in images] == [False, False, True]
        assert [shown["id"] for shown in (await gallery(service))["images"]] == [images[2].id]

    async def test_what_failed_can_be_repeated(self, tmp_path):
        class Failing(LocalStorage):
            broken = True

            async def delete(self, key):
                if self.broken:
                    raise StorageError
                await super().delete(key)

        storage = Failing(tmp_path / "images")
        async with api_service(tmp_path, storage=storage) as service:
            image, _ = await service.make_image()
            body = {"ids": [image.id]}
            assert sentence(await service.http.post("/api/images/delete", json=body), 503)
            storage.broken = False
            assert (await service.http.post("/api/images/delete", json=body)).json()["deleted"] == [image.id]

    @pytest.mark.parametrize("ids", [[], ["x"] * 501, "x", None])
    @pytest.mark.parametrize("what", ["delete", "download"])
    async def test_none_and_too_many_are_refused(self, service, ids, what):
        assert sentence(await service.http.post(f"/api/images/{what}", json={"ids": ids}), 400).startswith("ids: ")

    async def test_they_come_as_one_file_that_names_what_is_missing(self, service):
        first, content = await service.make_image()
        second, _ = await service.make_image(settings={"output_format": "jpeg"})
        gone, _ = await service.make_image()
        await service.storage.delete(gone.key)
        ids = [first.id, second.id, gone.id, UNKNOWN]
        response = await service.http.post("/api/images/download", json={"ids": ids})
        assert response.headers["content-type"] == "application/zip"
        assert "images.zip" in response.headers["content-disposition"]
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == [f"{first.id}.png", f"{second.id}.jpg", "missing.txt"]
            assert archive.read(f"{first.id}.png") == content
            assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
            missing = archive.read("missing.txt").decode()
        assert gone.id in missing
        assert UNKNOWN in missing

    async def test_the_answer_begins_before_the_last_image_is_read(self, tmp_path):
        class Counting(LocalStorage):
            reads = 0

            async def read(self, key):
                self.reads += 1
                return await super().read(key)

        from serve.api.cyberimage.archive import zip_images  # noqa: PLC0415

        storage = Counting(tmp_path / "images")
        async with api_service(tmp_path, storage=storage) as service:
            made = [(await service.make_image())[0].id for _ in range(2)]
            storage.reads = 0
            pieces = zip_images(storage, await service.tracker.images.find(made), [])
            assert await anext(pieces)
            assert storage.reads == 1
            await pieces.aclose()


class TestUsage:
    async def test_what_everybody_has(self, service):
        image, content = await service.make_image(settings={"num_images": 1})
        answer = (await service.http.get("/api/usage")).json()
        assert answer["usage"] == [{"owner": "10.1.2.3", "model_id": "shapes", "images": 1, "bytes": image.byte_count}]
        assert (answer["images"], answer["bytes"], answer["quota_images"]) == (1, len(content), None)

    async def test_a_quota_refuses_with_a_sentence(self, tmp_path):
        async with api_service(tmp_path, quota={"images": 2}) as service:
            body = {"model_id": "shapes", "prompt": PROMPT, "settings": {"num_images": 3}}
            message = sentence(await service.http.post("/api/generate", json=body), 507)
            assert message.startswith("You may keep 2 images")
            assert (await service.http.get("/api/usage")).json()["quota_images"] == 2


class TestLineage:
    async def test_from_a_picture_that_was_sent_to_an_image_of_an_image(self, service):
        first, content = await service.make_image()
        sent = await service.http.post("/api/inputs", content=content, headers={"Content-Type": "image/png"})
        second, _ = await service.make_image(image=sent.json()["id"])
        third, _ = await service.make_image(image=second.id)
        answer = (await service.http.get(f"/api/image/{second.id}/lineage")).json()
        assert list(answer) == list(gallery_examples.LINEAGE)
        assert [(each["id"], each["kind"], each["file_path"]) for each in answer["ancestors"]] == [
            (sent.json()["id"], "input", None)
        ]
        assert [(each["id"], each["role"], each["file_path"]) for each in answer["descendants"]] == [
            (third.id, "image", f"/api/image/{third.id}")
        ]
        assert (await service.http.get(f"/api/image/{first.id}/lineage")).json()["ancestors"] == []

    async def test_of_no_image(self, service):
        assert sentence(await service.http.get(f"/api/image/{UNKNOWN}/lineage"), 404)


async def test_models_are_searched_by_their_ids(tmp_path):
    async with api_service(tmp_path, catalog=WIDE_CATALOG) as service:
        await service.submit(model_id="fast")
        await service.finish(await service.start("fast"))
        assert (await gallery(service, "?search=fast"))["total"] == 1
