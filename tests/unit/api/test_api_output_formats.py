"""Which file a client asks for."""

from __future__ import annotations

import io

import PIL.Image
import pytest

from deployments.storage import formats
from deployments.storage.formats import FORMATS, available_formats
from deployments.storage.metadata.image_file import read_metadata
from tests.support.api_service import PROMPT, sentence

BODY = {"model_id": "shapes", "prompt": PROMPT}


@pytest.mark.parametrize("name", available_formats())
async def test_each_format_is_served_as_what_it_is(service, name):
    image, content = await service.make_image(settings={"output_format": name})

    response = await service.http.get(f"/api/image/{image.id}")

    assert response.headers["Content-Type"] == f"image/{name}"
    assert response.content == content
    assert PIL.Image.open(io.BytesIO(content)).format == name.upper()
    assert read_metadata(content)["settings"]["output_format"] == name


async def test_png_with_its_metadata_is_what_is_made_unless_told_otherwise(service):
    settings = (await service.job(await service.submit())).request.settings

    assert (settings.output_format, settings.quality, settings.metadata) == ("png", None, True)


async def test_what_is_asked_for_is_recorded_and_asked_for_again(service):
    asked = {"output_format": "webp", "quality": 40, "metadata": False}
    image, content = await service.make_image(settings=asked)

    again = (await service.http.post(f"/api/image/{image.id}/replay")).json()["job_id"]

    assert read_metadata(content) == {}
    assert (await service.http.get(f"/api/image/{image.id}/metadata")).json()["prompt"] == PROMPT
    settings = (await service.job(again)).request.settings
    assert settings.model_dump(include=set(asked)) == asked


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output_format": "tiff"}, 'settings.output_format: "tiff" is not possible; available: {available}.'),
        ({"output_format": "PNG"}, 'settings.output_format: "PNG" is not possible; available: {available}.'),
        ({"output_format": ""}, 'settings.output_format: "" is not possible; available: {available}.'),
        (
            {"quality": 80},
            "settings.quality: png loses nothing and takes none; leave it out, or choose another "
            "settings.output_format.",
        ),
        ({"output_format": "jpeg", "quality": 0}, "settings.quality: 0 is not possible; it is 1 to 100."),
        ({"output_format": "webp", "quality": 101}, "settings.quality: 101 is not possible; it is 1 to 100."),
    ],
)
async def test_what_is_not_possible_is_told_with_what_is(service, settings, message):
    response = await service.http.post("/api/generate", json=BODY | {"settings": settings})

    assert sentence(response, 400) == message.format(available=", ".join(available_formats()))


@pytest.mark.parametrize("settings", [{"output_format": 5}, {"quality": "high"}, {"quality": True}, {"metadata": "x"}])
async def test_what_has_another_type_is_told_by_its_name(service, settings):
    response = await service.http.post("/api/generate", json=BODY | {"settings": {"output_format": "jpeg"} | settings})

    assert f"settings.{next(iter(settings))}" in sentence(response, 400)


async def test_a_format_that_this_machine_lacks_is_not_offered(service, monkeypatch):
    monkeypatch.setattr(formats.features, "check", lambda feature: feature != "avif")

    response = await service.http.post("/api/generate", json=BODY | {"settings": {"output_format": "avif"}})

    assert sentence(response, 400) == 'settings.output_format: "avif" is not possible; available: png, webp, jpeg.'
    assert FORMATS["avif"].is_available is False
