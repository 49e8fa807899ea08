"""The OpenAI dialect's edits: images that start from pictures."""

from __future__ import annotations

import io

import PIL.Image
import pytest

from tests.support.api_service import api_service
from tests.support.dialects import asked, drawn, next_claim, openai_error, opened, picture

pytestmark = pytest.mark.timeout(60)
EDITS = "/v1/images/edits"
PROMPT = "a red circle"


@pytest.fixture
async def service(tmp_path):
    async with api_service(
        tmp_path, clients={"model_aliases": {"dall-e-2": "", "best": "shapes", "gone": "lost"}}
    ) as it:
        yield it


class TestEdits:
    async def edit(self, service, files, **fields):
        return await service.http.post(EDITS, files=files, data={"prompt": PROMPT} | fields)

    def mask(self):
        """Transparent on the left."""
        mask = PIL.Image.new("RGBA", (64, 64), (0, 0, 0, 255))
        mask.paste((0, 0, 0, 0), (0, 0, 32, 64))
        file = io.BytesIO()
        mask.save(file, "PNG")
        return file.getvalue()

    @pytest.mark.parametrize("name", ["image", "image[]"])
    async def test_start_from_a_picture(self, service, name):
        request = self.edit(service, {name: ("a.jpg", picture(colour="blue", kind="JPEG"))}, n="2", strength="0.5")
        response, claim = await drawn(service, request)

        assert response.status_code == 200, response.text
        assert len(response.json()["data"]) == 2
        assert claim.request.settings.strength == 0.5
        kept = await service.tracker.inputs.find(claim.request.settings.image)
        assert (kept.client, kept.width) == ("10.1.2.3", 64)
        assert claim.request.settings.mask is None

    async def test_draw_anew_what_is_transparent_in_the_mask(self, service):
        files = {"image": ("a.png", picture()), "mask": ("m.png", self.mask())}
        _, claim = await drawn(service, self.edit(service, files))
        kept = await service.tracker.inputs.find(claim.request.settings.mask)
        mask = opened(await service.storage.read(kept.key)).convert("L")

        assert (mask.getpixel((5, 5)), mask.getpixel((50, 5))) == (255, 0)
        assert claim.request.settings.strength == 1.0

    async def test_come_as_events_too(self, service):
        async with asked(self.edit(service, {"image": ("a.png", picture())}, stream="true")) as waiting:
            await service.finish(await next_claim(service))
            response = await waiting
        assert "event: image_edit.completed" in response.text

    @pytest.mark.parametrize(
        ("files", "fields", "status", "param"),
        [
            ({}, {}, 415, "Content-Type"),
            ({"mask": picture()}, {}, 400, "image"),
            ({"image": picture(), "image[]": picture()}, {}, 400, "image"),
            ({"image": b"no picture"}, {}, 415, "image"),
            ({"image": picture()[:60]}, {}, 400, "image"),
            ({"image": picture(), "mask": picture()}, {}, 400, "mask"),
            ({"image": picture(), "mask": picture(32, 32, (0, 0, 0, 0), mode="RGBA")}, {}, 400, "mask"),
            ({"image": picture()}, {"strength": "2"}, 400, "strength"),
            ({"image": picture()}, {"n": "many"}, 400, "n"),
            ({"image": picture()}, {"mask": "none"}, 400, "mask"),
            ({"image": picture()}, {"colour": "red"}, 400, "colour"),
            ({"image": picture()}, {"model": "nothing"}, 404, "model"),
        ],
    )
    async def test_that_cannot_be_are_refused(self, service, files, fields, status, param):
        named = {name: ("a.png", content) for name, content in files.items()}
        error = openai_error(await self.edit(service, named, **fields), status)

        assert error["param"] == param
        assert error["message"].startswith(f"{param}: ")
        assert (await service.tracker.counts.by_state()).total == 0

    async def test_broken_forms_are_refused(self, service):
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        for content in (b"", b"--x\r\nbroken", b"--x\r\n\r\n--x--"):
            assert openai_error(await service.http.post(EDITS, content=content, headers=headers), 400)
        assert openai_error(
            await service.http.post(EDITS, content=b"", headers={"Content-Type": "multipart/form-data"}), 400
        )
