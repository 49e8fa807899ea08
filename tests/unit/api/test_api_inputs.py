"""Pictures that clients send, and jobs that start from them."""

from __future__ import annotations

import io

import PIL.Image
import pytest

from deployments.catalog.catalog import Catalog
from deployments.catalog.entry import ModelEntry
from deployments.catalog.limits import SizeLimits, StepLimits
from deployments.parameters import LoraChoice
from tests.support.api_service import PROMPT, ApiService, api_service, sentence

SMALL = SizeLimits(default_width=64, default_height=64, multiple_of=8, minimum=16, maximum=128, max_pixels=128 * 96)
LORA = {"repo": "owner/style"}
CATALOG = Catalog.model_validate(
    {
        "default": "shapes",
        "models": {
            "shapes": ModelEntry.model_validate(
                {
                    "repo": "owner/shapes",
                    "size": SMALL,
                    "steps": StepLimits(default=20),
                    "tasks": ["image2image", "inpaint"],
                    "controlnet": {"repo": "owner/lines", "tasks": ["text2image", "image2image"]},
                    "request_loras": {"ink": {**LORA, "scale": 0.7}, "gold": LORA, "oil": LORA},
                    "max_loras": 2,
                }
            ),
            "plain": ModelEntry(repo="owner/plain", size=SMALL),
            "half": ModelEntry(repo="owner/half", size=SMALL, tasks=("image2image",)),
        },
    }
)
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def service(tmp_path):
    async with api_service(tmp_path, CATALOG, max_upload_bytes=50_000, max_upload_pixels=40_000) as service:
        yield service


def picture(width: int = 64, height: int = 64, colour: str = "red", kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (width, height), colour).save(file, kind)
    return file.getvalue()


async def send(service: ApiService, content: bytes, kind: str = "image/png"):
    return await service.http.post("/api/inputs", content=content, headers={"Content-Type": kind})


async def sent(service: ApiService, width: int = 64, height: int = 64, colour: str = "red") -> str:
    """Send a picture and return its id."""
    response = await send(service, picture(width, height, colour))
    assert response.status_code == 200, response.text
    return response.json()["id"]


async def refused(service: ApiService, **body) -> str:
    response = await service.http.post("/api/generate", json={"model_id": "shapes", "prompt": PROMPT} | body)
    assert (await service.tracker.counts.by_state()).total == 0
    return sentence(response, 400)


class TestSending:
    async def test_a_picture_is_kept_and_told(self, service):
        response = await send(service, picture(40, 30, kind="JPEG"), "image/jpeg")

        assert response.status_code == 200
        assert response.json() == {"id": response.json()["id"], "width": 40, "height": 30}
        record = await service.tracker.inputs.find(response.json()["id"])
        kept = await service.storage.read(record.key)
        with PIL.Image.open(io.BytesIO(kept)) as image:
            assert (image.format, image.size) == ("PNG", (40, 30))
        assert (record.client, record.byte_count) == ("10.1.2.3", len(kept))

    async def test_the_same_one_twice_is_one(self, service):
        first, second = await sent(service), await sent(service)
        other = await sent(service, colour="blue")

        assert first == second != other
        assert len(list(service.images_dir.glob("*/*/*/*.png"))) == 2

    async def test_a_file_that_was_lost_comes_back_with_the_next_upload(self, service):
        first = await sent(service)
        record = await service.tracker.inputs.find(first)
        await service.storage.delete(record.key)

        assert await sent(service) == first
        assert await service.storage.exists(record.key)

    async def test_its_own_limit_of_bytes_holds_announced_or_not(self, service):
        async def in_parts():
            for _ in range(60):
                yield bytes(1000)

        told = sentence(await send(service, bytes(60_000)), 413)
        assert "50000 bytes" in told
        assert sentence(await send(service, in_parts()), 413) == told

    async def test_other_routes_keep_theirs(self, tmp_path):
        async with api_service(tmp_path, CATALOG, max_body_bytes=1024) as service:
            assert (await send(service, picture() + bytes(2000))).status_code == 200
            response = await service.http.post("/api/generate", content=bytes(2000))
            assert "1024 bytes" in sentence(response, 413)

    @pytest.mark.parametrize(
        ("content", "kind", "status", "words"),
        [
            (picture(), "multipart/form-data; boundary=x", 415, "Content-Type: send the file's own bytes"),
            (picture(), "", 415, "Content-Type: send the file's own bytes"),
            (b"", "image/png", 415, "PNG, JPEG or WebP"),
            (b"hello", "image/png", 415, "PNG, JPEG or WebP"),
            (picture(kind="GIF"), "image/gif", 415, "PNG, JPEG or WebP"),
            (picture()[:100], "image/png", 400, "damaged or incomplete"),
            (picture(201, 200), "image/png", 413, "201x200, 40200 pixels; at most 40000"),
        ],
    )
    async def test_what_is_no_picture_is_refused_and_not_kept(self, service, content, kind, status, words):
        assert words in sentence(await send(service, content, kind), status)
        assert not list(service.images_dir.glob("*/*/*/*"))


class TestStarting:
    async def test_a_job_starts_from_a_picture(self, service):
        image, mask = await sent(service), await sent(service, colour="white")
        job_id = await service.submit(image=image, mask=mask, settings={"strength": 0.5})
        job = await service.job(job_id)
        settings = job.request.settings

        assert (settings.image, settings.mask, settings.strength) == (image, mask, 0.5)
        assert settings.pictures == {"image": image, "mask": mask}

    async def test_an_image_that_was_made_here_will_do(self, service):
        made, _ = await service.make_image()
        job = await service.job(await service.submit(image=made.id))

        assert job.request.settings.image == made.id
        assert (job.request.settings.width, job.request.settings.strength) == (64, 0.8)

    async def test_its_steps_are_those_that_are_done(self, service):
        image = await sent(service)
        settings = {"strength": 0.5, "num_inference_steps": 20, "num_images": 3}
        assert (await service.job(await service.submit(image=image, settings=settings))).total_steps == 30
        assert (await service.job(await service.submit(image=image, mask=image))).total_steps == 20

    @pytest.mark.parametrize(
        ("size", "asked", "output"),
        [
            ((64, 64), {}, (64, 64)),
            ((48, 96), {}, (48, 96)),
            ((50, 90), {}, (48, 88)),
            ((200, 100), {}, (128, 64)),
            ((8, 16), {}, (16, 32)),
            ((4, 100), {}, (16, 128)),
            ((150, 150), {}, (104, 104)),
            ((48, 96), {"width": 64, "height": 32}, (64, 32)),
            ((48, 96), {"width": 64}, (64, 96)),
        ],
    )
    async def test_the_size_is_the_pictures_as_far_as_the_model_can(self, service, size, asked, output):
        image = await sent(service, *size)
        settings = (await service.job(await service.submit(image=image, settings=asked))).request.settings
        assert (settings.width, settings.height) == output

    async def test_a_control_image_and_loras(self, service):
        control = await sent(service, 32, 48)
        asked = {"control_scale": 0.5, "loras": [{"name": "ink"}, {"name": "gold", "scale": -0.5}]}
        settings = (await service.job(await service.submit(control_image=control, settings=asked))).request.settings

        assert (settings.width, settings.height) == (32, 48)
        assert (settings.control_image, settings.control_scale) == (control, 0.5)
        assert settings.loras == (LoraChoice(name="ink", scale=0.7), LoraChoice(name="gold", scale=-0.5))

    async def test_the_status_tells_it_and_the_key_knows_it(self, service):
        image = await sent(service)
        body = {"model_id": "shapes", "prompt": PROMPT, "image": image, "settings": {"loras": [{"name": "oil"}]}}
        headers = {"Idempotency-Key": "once"}
        answers = [(await service.http.post("/api/generate", json=body, headers=headers)).json() for _ in range(2)]
        other = await service.http.post("/api/generate", json={**body, "image": None}, headers=headers)
        status = (await service.http.get(f"/api/status/{answers[0]['job_id']}")).json()

        assert answers[0] == answers[1]
        assert other.status_code == 409
        assert status["settings"]["image"] == image
        assert status["settings"]["loras"] == [{"name": "oil", "scale": 1.0}]


class TestRefusals:
    async def test_pictures_that_are_not_there(self, service):
        for field in ("image", "mask", "control_image"):
            for name in (NOBODY, "cat.png", ""):
                told = await refused(service, **{field: name})
                assert told.startswith(f'{field}: there is no input and no image "{name}"; send the picture')

    async def test_a_mask_without_an_image(self, service):
        assert (await refused(service, mask=await sent(service))).startswith("mask: it needs a picture to lie on")

    async def test_a_mask_of_another_size(self, service):
        told = await refused(service, image=await sent(service), mask=await sent(service, 32, 64))
        assert told == "mask: it is 32x64 and the image is 64x64; send a mask of the image's size."

    async def test_a_task_that_the_model_cannot_do(self, service):
        image = await sent(service)
        told = await refused(service, model_id="plain", image=image)
        assert told == "image: this model cannot start from an image; models that can: shapes, half."
        told = await refused(service, model_id="half", image=image, mask=image)
        assert told == "mask: this model cannot repaint parts of an image; models that can: shapes."

    @pytest.mark.parametrize(
        ("strength", "words"),
        [
            (-0.1, "-0.1 is not possible; it is above 0, and at most 1"),
            (1.01, "1.01 is not possible; it is above 0, and at most 1"),
            (0, "0 of 20 steps is less than one step; 0.05 or more would be right"),
            (0.04, "0.04 of 20 steps is less than one step; 0.05 or more would be right"),
            ("much", '"much" is not a number'),
        ],
    )
    async def test_a_strength_that_cannot_be(self, service, strength, words):
        told = await refused(service, image=await sent(service), settings={"strength": strength})
        assert told == f"settings.strength: {words}."

    async def test_a_strength_or_a_scale_of_nothing(self, service):
        told = await refused(service, settings={"strength": 0.5})
        assert told == "settings.strength: it is for an image to start from; give one, or leave it out."
        told = await refused(service, settings={"control_scale": 0.5})
        assert told == "settings.control_scale: it is for a control_image; give one, or leave it out."

    async def test_a_control_image_for_a_model_without_controlnet(self, service):
        told = await refused(service, model_id="plain", control_image=await sent(service))
        assert told == "control_image: this model has no ControlNet; models that have: shapes."

    async def test_a_control_image_where_the_controlnet_is_not_for_the_task(self, service):
        image = await sent(service)
        told = await refused(service, image=image, mask=image, control_image=image)
        assert told == (
            "control_image: with this model it does not go with mask; its ControlNet is for text2image, image2image."
        )

    async def test_a_control_image_of_another_size(self, service):
        told = await refused(service, image=await sent(service), control_image=await sent(service, 32, 32))
        assert told.startswith("control_image: it is 32x32 and the output is 64x64; send one of that size")
        told = await refused(service, control_image=await sent(service, 150, 100))
        assert told.startswith("control_image: it is 150x100 and the output is 128x88")

    @pytest.mark.parametrize("scale", [-0.1, 2.1])
    async def test_a_control_scale_out_of_range(self, service, scale):
        told = await refused(service, control_image=await sent(service), settings={"control_scale": scale})
        assert told == f"settings.control_scale: {scale} is not possible; it is 0 to 2."

    @pytest.mark.parametrize(
        ("loras", "told"),
        [
            ([{"name": "x"}], 'settings.loras.0.name: this model has no LoRA "x"; it has: ink, gold, oil.'),
            ([{"name": "ink"}] * 2, 'settings.loras.1.name: "ink" is there twice; give it once.'),
            (
                [{"name": name} for name in ("ink", "gold", "oil")],
                "settings.loras: 3 are too many; this model takes at most 2.",
            ),
            (
                [{"name": "ink", "scale": 5}],
                "settings.loras.0.scale: 5 is not possible; it is -4 to 4.",
            ),
            ([{"scale": 1}], "settings.loras.0.name: it is missing."),
            ([{"name": "ink", "zzz": 1}], "settings.loras.0.zzz: there is no such field."),
            (["ink"], 'settings.loras.0: "ink" is not a JSON object.'),
        ],
    )
    async def test_loras_that_cannot_be(self, service, loras, told):
        assert await refused(service, settings={"loras": loras}) == told

    async def test_a_model_without_loras(self, service):
        told = await refused(service, model_id="plain", settings={"loras": [{"name": "ink"}]})
        assert told == 'settings.loras.0.name: this model has no LoRA "ink"; it has none to choose.'

    async def test_names_that_other_dialects_have(self, service):
        told = await refused(service, init_image=NOBODY, settings={"denoising_strength": 0.5})
        assert 'did you mean "image"?' in told
        assert 'did you mean "settings.strength"?' in told


class TestReplay:
    async def test_it_starts_from_the_same_pictures(self, service):
        image = await sent(service)
        asked = {"strength": 0.5, "loras": [{"name": "ink"}]}
        made, _ = await service.make_image(image=image, mask=image, settings=asked)
        response = await service.http.post(f"/api/image/{made.id}/replay")
        again = (await service.job(response.json()["job_id"])).request.settings

        assert made.metadata["settings"]["image"] == image
        assert (again.image, again.mask, again.strength) == (image, image, 0.5)
        assert again.loras == (LoraChoice(name="ink", scale=0.7),)

    async def test_it_says_what_it_lacks(self, service):
        source, _ = await service.make_image()
        made, _ = await service.make_image(image=source.id)
        await service.http.delete(f"/api/image/{source.id}")
        response = await service.http.post(f"/api/image/{made.id}/replay")

        assert sentence(response, 400).startswith(f'image: there is no input and no image "{source.id}"')


async def test_models_tell_what_they_can_do(service):
    models = (await service.http.get("/api/models")).json()["models"]

    assert models["shapes"]["tasks"] == ["text2image", "image2image", "inpaint"]
    assert models["shapes"]["control_tasks"] == ["text2image", "image2image"]
    assert models["shapes"]["loras"] == ["ink", "gold", "oil"]
    assert (models["plain"]["tasks"], models["plain"]["control_tasks"]) == (["text2image"], [])
