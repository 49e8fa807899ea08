"""A picture that a client sends becomes another one: upload, image-to-image and inpainting on the built-in model."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from models.training.judge import Verdict
from tests.support.service import Service, judged, pixels


def red_circle() -> bytes:
    """In the colours in which the built-in model draws."""
    image = Image.new("RGB", (64, 64), (70, 100, 200))
    ImageDraw.Draw(image).ellipse((12, 12, 52, 52), fill=(219, 38, 39))
    return _png(image)


def right_half() -> bytes:
    image = Image.new("L", (64, 64), 0)
    image.paste(255, (32, 0, 64, 64))
    return _png(image)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def send(service: Service, content: bytes) -> str:
    answer = service.http.post("/api/inputs", content=content, headers={"Content-Type": "image/png"})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def submit(service: Service, prompt: str, strength: float, **inputs: str) -> str:
    settings = {"strength": strength, "seed": 3, "num_inference_steps": 20}
    body = {"model_id": "shapes", "prompt": prompt, "settings": settings, **inputs}
    answer = service.http.post("/api/generate", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["job_id"]


@pytest.mark.parametrize(
    ("prompt", "strength", "shown"),
    [
        ("a large red circle on a blue background", 0.5, Verdict("circle", "red", "blue", "centre")),
        ("a large green circle on a blue background", 0.7, Verdict("circle", "green", "blue", "centre")),
    ],
)
def test_a_red_circle_becomes_what_the_prompt_says(service, prompt, strength, shown):
    start = send(service, red_circle())
    job = service.wait_until(submit(service, prompt, strength, image=start), "completed")
    (image,) = job["images"]

    assert judged(service.image(image["id"])) == shown
    assert job["progress"]["step"] == job["progress"]["total_steps"] == 20 * strength
    assert image["metadata"]["settings"]["image"] == start
    assert image["metadata"]["made_from"]["image"]["id"] == start
    assert image["metadata"]["made_from"]["image"]["kind"] == "input"


def test_only_what_the_mask_shows_is_drawn_anew(service):
    start, mask = send(service, red_circle()), send(service, right_half())
    prompt = "a large red circle on a white background"
    (image,) = service.wait_until(submit(service, prompt, 1.0, image=start, mask=mask), "completed")["images"]
    before, after = pixels(red_circle()).astype(int), pixels(service.image(image["id"])).astype(int)
    change = np.abs(after - before).mean(axis=(0, 2))

    assert change[:28].mean() < 20 < change[36:].mean()


def test_an_image_of_the_service_can_be_the_start_and_be_made_again(service):
    (first,) = service.wait_until(service.submit("a large red circle on a blue background"), "completed")["images"]
    job_id = submit(service, "a large red square on a blue background", 0.5, image=first["id"])
    (second,) = service.wait_until(job_id, "completed")["images"]
    again = service.http.post(f"/api/image/{second['id']}/replay").json()
    (third,) = service.wait_until(again["job_id"], "completed")["images"]

    assert second["metadata"]["made_from"]["image"]["kind"] == "image"
    pictures = [pixels(service.image(image["id"])).astype(int) for image in (second, third)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
