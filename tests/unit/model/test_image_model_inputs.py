"""Jobs with pictures and LoRAs, from the request over HTTP to the stored image, with a real pipeline."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from deployments.catalog.catalog import Catalog, load_catalog
from deployments.jobs.records.jobs import Image, Job, JobState
from deployments.model.image_model import ImageModel
from deployments.model.loading import load_model
from tests.support.api_service import ApiService, api_service
from tests.support.drawing import draw_image
from tests.support.image_models import image_model
from tests.support.image_requests import image_request
from tests.support.loading_samples import save_controlnet, save_folder, save_lora

CATALOG = """
models:
  tiny:
    repo: tiny
    source: local
    replicas: {num_gpus: 0}
    size: {default_width: 16, default_height: 16, multiple_of: 8, minimum: 16, maximum: 32}
    controlnet: {repo: lines, source: local}
    request_loras: {ink: {repo: ink, source: local, scale: 0.3}}
"""
CIRCLE = PIL.Image.radial_gradient("L").resize((32, 32)).convert("RGB")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> Catalog:
    folder = tmp_path_factory.mktemp("models")
    save_folder(folder / "tiny")
    save_lora(folder / "ink")
    save_controlnet(folder / "lines")
    (folder / "catalog.yaml").write_text(CATALOG)
    return load_catalog(folder / "catalog.yaml", {})


@pytest.fixture
async def service(tmp_path: Path, catalog: Catalog) -> AsyncIterator[ApiService]:
    async with api_service(tmp_path, catalog) as service:
        yield service


@pytest.fixture
def model(service: ApiService, catalog: Catalog) -> ImageModel:
    return image_model("tiny", catalog.get("tiny"), service.storage, service.tracker)


async def sent(service: ApiService, picture: PIL.Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    response = await service.http.post("/api/inputs", content=file.getvalue(), headers={"Content-Type": "image/png"})
    return response.json()["id"]


async def made(service: ApiService, model: ImageModel, **body: Any) -> tuple[Job, list[Image]]:
    """Bring a job to its end, and return it with its images."""
    settings = {"num_inference_steps": 6, "guidance_scale": 3.0, "seed": 1} | body.pop("settings", {})
    job_id = await service.submit(model_id="tiny", prompt="a red circle", settings=settings, **body)
    await model.generate(await service.start("tiny"))
    return await service.job(job_id), await service.tracker.images.of_jobs([job_id])


async def pixels(service: ApiService, image: Image) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(await service.storage.read(image.key)))).astype(int)


def stock(catalog: Catalog, **changes: Any) -> np.ndarray:
    pipeline = load_model(catalog.get("tiny"), {})
    picture = draw_image(pipeline, image_request(num_inference_steps=6, **changes))
    return np.rint(picture * 255).astype(int)


async def test_image_to_image_does_its_share_of_the_steps_and_tells_its_origin(service, model, catalog):
    start = await sent(service, CIRCLE)
    job, (image,) = await made(service, model, image=start, settings={"strength": 0.5})
    expected = stock(catalog, task="image2image", inputs={"image": CIRCLE}, strength=0.5, width=32, height=32)

    assert job.state is JobState.COMPLETED, job.message
    assert job.step == job.total_steps == 3
    assert np.abs(await pixels(service, image) - expected).max() <= 1
    record = await service.tracker.inputs.find(start)
    assert image.metadata["made_from"] == {"image": {"id": start, "kind": "input", "sha256": record.sha256}}
    assert image.metadata["settings"]["image"] == start


async def test_progress_never_passes_its_end(service, model):
    reported = []
    real_report = service.tracker.report

    async def report(reports):
        reported.extend(each.step for each in reports)
        return await real_report(reports)

    service.tracker.report = report
    start = await sent(service, CIRCLE)
    job, _ = await made(service, model, image=start, settings={"strength": 0.5, "num_images": 4})
    assert job.total_steps == 12
    assert all(step <= 12 for step in reported)


async def test_a_picture_of_another_size_is_resized_and_a_mask_keeps_the_rest(service, model, catalog):
    large = CIRCLE.resize((64, 64))
    mask = PIL.Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    start, cover = await sent(service, large), await sent(service, mask)
    job, (image,) = await made(
        service, model, image=start, mask=cover, settings={"width": 16, "height": 16, "strength": 0.8}
    )
    lanczos = PIL.Image.Resampling.LANCZOS
    inputs = {"image": large.resize((16, 16), lanczos), "mask_image": mask.resize((16, 16), lanczos)}
    expected = stock(catalog, task="inpaint", inputs=inputs, strength=0.8)

    assert job.state is JobState.COMPLETED, job.message
    assert np.abs(await pixels(service, image) - expected).max() <= 1


async def test_a_control_image_and_a_lora_change_the_picture_and_are_told(service, model, catalog):
    control = await sent(service, CIRCLE.resize((16, 16)))
    _, (plain,) = await made(service, model)
    _, (controlled,) = await made(service, model, control_image=control)
    _, (inked,) = await made(service, model, settings={"loras": [{"name": "ink"}]})
    pictures = [await pixels(service, image) for image in (plain, controlled, inked)]

    assert np.abs(pictures[0] - stock(catalog)).max() <= 1
    assert np.abs(pictures[1] - pictures[0]).max() > 3
    assert np.abs(pictures[2] - pictures[0]).max() > 3
    assert controlled.metadata["controlnet_weights"].startswith("sha256:")
    assert inked.metadata["settings"]["loras"] == [{"name": "ink", "scale": 0.3}]
    assert inked.metadata["lora_weights"]["ink"].startswith("sha256:")
    assert not {"made_from", "lora_weights", "controlnet_weights"} & set(plain.metadata)


async def test_an_image_can_be_made_from_another_and_again(service, model):
    _, (first,) = await made(service, model)
    _, (second,) = await made(service, model, image=first.id)
    response = await service.http.post(f"/api/image/{second.id}/replay")
    await model.generate(await service.start("tiny"))
    (again,) = await service.tracker.images.of_jobs([response.json()["job_id"]])

    assert second.metadata["made_from"]["image"]["kind"] == "image"
    assert np.abs(await pixels(service, again) - await pixels(service, second)).max() <= 1


async def test_a_picture_that_goes_away_while_the_job_waits_fails_it_with_the_reason(service, model):
    start = await sent(service, CIRCLE)
    job_id = await service.submit(model_id="tiny", prompt="a red circle", image=start)
    await service.storage.delete((await service.tracker.inputs.find(start)).key)
    await model.generate(await service.start("tiny"))
    job = await service.job(job_id)

    assert job.state is JobState.FAILED
    assert job.message == f"image: the picture {start} is no longer there; send it again."
