"""Long answers: one client cannot have so many open that others wait, or that memory fills with what nobody reads."""

from __future__ import annotations

from functools import partial

import pytest

import serve.services.services
from serve.protection.protection import Clocks, Protection
from tests.support.api_service import api_service, sentence
from tests.support.event_stream import open_stream
from tests.support.protected_service import NOBODY

ANN, BOB = {"X-Forwarded-For": "6.6.6.6"}, {"X-Forwarded-For": "1.2.3.4"}


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    async def pause(seconds: float) -> None:
        made.append(seconds)

    made: list[float] = []
    monkeypatch.setattr(serve.services.services, "Protection", partial(Protection, clocks=Clocks(pause=pause)))
    return made


@pytest.fixture
async def service(tmp_path, pauses):
    limits = {"streams_at_once": 2, "downloads_at_once": 1}
    async with api_service(tmp_path, limits=limits, trusted_proxies=["10.1.2.3"]) as service:
        yield service


async def test_more_streams_than_a_client_may_have_are_refused_late(service, pauses):
    job_id = await service.submit()
    addresses = ["/api/events", f"/api/jobs/{job_id}/events"]
    async with open_stream(service.app, addresses[0], headers=ANN):
        async with open_stream(service.app, addresses[1], headers=ANN):
            for path in addresses:
                refused = await service.http.get(path, headers=ANN)
                assert sentence(refused, 429) == "2 event streams of yours are open; end one of them before the next."
                assert refused.headers["Retry-After"] == "1"
            assert pauses == [1.0, 1.0]
            async with open_stream(service.app, "/api/events", headers=BOB) as other:
                assert other.status == 200
        async with open_stream(service.app, addresses[1], headers=ANN) as again:
            assert again.status == 200


async def test_unknown_ones_are_not_counted(service):
    for _ in range(5):
        assert (await service.http.get(f"/api/jobs/{NOBODY}/events", headers=ANN)).status_code == 404
    async with open_stream(service.app, "/api/events", headers=ANN) as stream:
        assert stream.status == 200


async def test_downloads_are_counted_while_they_last(service):
    image, _ = await service.make_image()
    body = {"ids": [image.id]}
    for _ in range(3):  # one after the other
        assert (await service.http.post("/api/images/download", json=body, headers=ANN)).status_code == 200

    original, refused = service.storage.read, []

    async def read(key: str) -> bytes:
        refused.append(await service.http.post("/api/images/download", json=body, headers=ANN))
        return await original(key)

    service.storage.read = read
    assert (await service.http.post("/api/images/download", json=body, headers=ANN)).status_code == 200
    assert "downloads of many images" in sentence(refused[0], 429)


async def test_an_archive_has_a_limit_in_bytes(tmp_path):
    async with api_service(tmp_path, max_archive_bytes=1024) as service:
        images = [(await service.make_image())[0] for _ in range(6)]
        total = sum(image.byte_count for image in images)
        assert images[0].byte_count <= 1024 < total

        one = await service.http.post("/api/images/download", json={"ids": [images[0].id]})
        all_of_them = await service.http.post("/api/images/download", json={"ids": [image.id for image in images]})

    assert one.status_code == 200
    assert sentence(all_of_them, 413).startswith(f"ids: these images have {total} bytes; 1024 or fewer")
