"""Downloads of many images: what a client does not read of one stays in memory, so it has a limit."""

from __future__ import annotations

from tests.support.api_service import api_service, sentence


async def test_an_archive_has_a_limit_in_bytes(tmp_path):
    async with api_service(tmp_path, max_archive_bytes=1024) as service:
        images = [(await service.make_image())[0] for _ in range(6)]
        total = sum(image.byte_count for image in images)
        assert images[0].byte_count <= 1024 < total

        one = await service.http.post("/api/images/download", json={"ids": [images[0].id]})
        all_of_them = await service.http.post("/api/images/download", json={"ids": [image.id for image in images]})

    assert one.status_code == 200
    assert sentence(all_of_them, 413).startswith(f"ids: these images have {total} bytes; 1024 or fewer")
