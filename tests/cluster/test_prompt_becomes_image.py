"""The main job: a prompt over HTTP becomes the right picture, through every part of the service."""

import json

import numpy as np
import pytest
from PIL import Image
from ray import serve

from deployments.storage.metadata.image_file import read_metadata
from models.training.judge import Verdict
from tests.support.service import APP_NAME, judged, pixels


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("a large red circle on a blue background", Verdict("circle", "red", "blue", "centre")),
        ("Large yellow square, black background", Verdict("square", "yellow", "black", "centre")),
        ("on a white background, a green triangle at the bottom", Verdict("triangle", "green", "white", "bottom")),
        ("a small blue circle, pink background, on the left", Verdict("circle", "blue", "pink", "left")),
    ],
)
def test_the_picture_shows_what_the_prompt_says(service, prompt, shown):
    assert judged(service.draw(prompt, seed=3)) == shown


def test_a_job_tells_how_it_was_made_and_keeps_its_images(service):
    job_id = service.submit("a blue star", num_images=3, seed=11, num_inference_steps=7, guidance_scale=2.5)
    job = service.wait_until(job_id, "completed")
    assert job["progress"]["step"] == job["progress"]["total_steps"] == 21
    assert [image["metadata"]["settings"]["seed"] for image in job["images"]] == [11, 12, 13]
    for image in job["images"]:
        content = service.image(image["id"])
        assert read_metadata(content) == image["metadata"]
        assert service.http.get(f"/api/image/{image['id']}/metadata").json() == image["metadata"]
        (file,) = service.data_dir.glob(f"images/*/*/*/{image['id']}.png")
        assert file.read_bytes() == content
        text = Image.open(file).text["parameters"]
        assert text.startswith("a blue star\nSteps: 7,")
        assert f"Seed: {image['metadata']['settings']['seed']}" in text


def test_nobody_else_can_read_what_it_keeps(service):
    job = service.wait_until(service.submit("a blue star"), "completed")
    (image,) = job["images"]
    assert service.http.get(f"/api/image/{image['id']}/thumbnail?size=256").status_code == 200

    kept = {path: oct(path.stat().st_mode & 0o777) for path in service.data_dir.rglob("*")}
    assert {path.suffix for path in kept} >= {".db", ".log", ".png", ".webp"}
    assert {path: mode for path, mode in kept.items() if mode not in ("0o600", "0o700")} == {}


def test_an_image_of_many_equals_a_single_one_with_its_recorded_seed(service):
    job = service.wait_until(service.submit("a green ring", num_images=4, seed=2**63 - 2), "completed")
    last = job["images"][-1]
    assert last["metadata"]["settings"]["seed"] == 1
    alone = service.draw("a green ring", seed=1)
    assert np.abs(pixels(alone).astype(int) - pixels(service.image(last["id"]))).max() <= 1


def test_jobs_of_different_steps_and_guidance_are_made_together(service):
    jobs = [
        service.submit("a red cross", seed=seed, num_inference_steps=10 + seed, guidance_scale=1.5 + seed)
        for seed in range(6)
    ]
    for job_id in jobs:
        service.wait_until(job_id, "completed")
    replica = serve.get_deployment_handle("model-shapes", app_name=APP_NAME)
    assert replica.describe.remote().result()["widest_batch"] > 1


def test_a_running_job_can_be_cancelled_and_leaves_nothing(service):
    job_id = service.submit("a red cross", num_images=8, num_inference_steps=100)
    service.wait_for_step(job_id, 1)
    answer = service.http.delete(f"/api/jobs/{job_id}")
    assert answer.status_code == 200
    job = service.wait_until(job_id, "cancelled")
    assert job["images"] == []
    assert 0 < job["progress"]["step"] < job["progress"]["total_steps"]
    again = service.http.delete(f"/api/jobs/{job_id}")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


def test_progress_rises_step_by_step_while_a_job_runs(service):
    job_id = service.submit("a red cross", num_images=8, num_inference_steps=60)
    steps = [0]
    while (job := service.status(job_id))["status"] in ("pending", "processing"):
        steps.append(job["progress"]["step"])
        assert job["progress"]["total_steps"] == 480
    assert job["status"] == "completed"
    assert steps == sorted(steps)
    assert len(set(steps)) > 3


def test_the_queue_counts_what_happened(service):
    service.wait_until(service.submit("a red cross", num_inference_steps=1), "completed")
    counts = service.http.get("/api/queue", params={"detailed": True}).json()
    assert counts["completed"] == sum(of_model["completed"] for of_model in counts["models"].values())
    assert counts["models"]["shapes"]["completed"] > 0
    assert counts["recent_24h"] == counts["total"]
    assert counts["avg_processing_time_seconds"] > 0


def test_the_service_goes_on_after_bad_input(service):
    bad = [b"", b"[]", b"{", json.dumps({"model_id": "shapes"}).encode(), b"x" * 2_000_000]
    with service.http as http:
        statuses = [http.post("/api/generate", content=body).status_code for body in bad]
        assert statuses == [400, 400, 400, 400, 413]
        assert http.get("/health").json()["status"] == "healthy"


def test_the_page_and_the_documentation_are_served(service):
    assert "<title>" in service.http.get("/").text
    assert service.http.get("/openapi.json").json()["info"]["title"] == "CyberImage"
