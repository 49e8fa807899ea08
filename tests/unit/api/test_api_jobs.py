"""Submitting, following and cancelling jobs over HTTP."""

from __future__ import annotations

from datetime import datetime

import pytest

from deployments.jobs.records.jobs import JobPhase, JobState
from serve.submission.settings import SettingsBody
from tests.support.api_service import PROMPT, api_service, sentence

UNKNOWN = "00000000-0000-4000-8000-000000000000"
PROGRESS_KEYS = [
    "preparing",
    "loading_model",
    "generating",
    "saving",
    "completed",
    "failed",
    "step",
    "total_steps",
]
STATUS_KEYS = [
    "id",
    "status",
    "model_id",
    "prompt",
    "negative_prompt",
    "settings",
    "created_at",
    "started_at",
    "completed_at",
    "message",
    "progress",
    "images",
    "queue_position",
    "priority",
    "expires_at",
    "retry_of",
    "eta_seconds",
    "loading",
    "cancel_requested",
    "preview",
    "webhook",
]
SETTINGS_KEYS = [
    "num_images",
    "num_inference_steps",
    "guidance_scale",
    "width",
    "height",
    "seed",
    "max_sequence_length",
    "clip_skip",
    "scheduler",
    "deterministic",
    "step_cache",
    "output_format",
    "quality",
    "metadata",
    "image",
    "mask",
    "strength",
    "control_image",
    "control_scale",
    "loras",
]


async def status(service, job_id):
    response = await service.http.get(f"/api/status/{job_id}")
    assert response.status_code == 200
    return response.json()


def flags(answer) -> set[str]:
    return {name for name, value in answer["progress"].items() if value is True}


class TestGenerate:
    async def test_answer_has_the_documented_shape(self, service):
        response = await service.http.post("/api/generate", json={"model_id": "shapes", "prompt": PROMPT})

        answer = response.json()
        assert list(answer) == ["job_id", "status", "num_images", "message"]
        assert (answer["status"], answer["num_images"]) == ("pending", 1)
        assert (await service.job(answer["job_id"])).state is JobState.PENDING

    async def test_defaults_are_the_models_and_the_client_is_the_callers_address(self, service):
        request = (await service.job(await service.submit())).request

        settings = request.settings
        assert (settings.num_images, settings.num_inference_steps, settings.guidance_scale) == (1, 20, 1.5)
        assert (settings.width, settings.height, settings.max_sequence_length) == (64, 64, None)
        assert 0 <= settings.seed < 2**32
        assert request.client == "10.1.2.3"

    async def test_two_jobs_without_a_seed_have_different_ones(self, service):
        seeds = {(await service.job(await service.submit())).request.settings.seed for _ in range(2)}

        assert len(seeds) == 2

    async def test_a_request_as_the_original_client_sends_it_is_taken_whole(self, wide_service):
        settings = {
            "num_images": 2,
            "num_inference_steps": 30,
            "guidance_scale": 7.5,
            "height": 1024,
            "width": 768,
            "seed": 2**63 - 1,
            "max_sequence_length": 256,
        }
        job_id = await wide_service.submit(
            model_id="large", prompt="a cat", negative_prompt="blurry", settings=settings
        )

        request = (await wide_service.job(job_id)).request
        assert (request.model_id, request.prompt, request.negative_prompt) == ("large", "a cat", "blurry")
        assert request.settings.model_dump() == settings | {
            "clip_skip": 0,
            "scheduler": None,
            "deterministic": False,
            "step_cache": 0.1,
            "output_format": "png",
            "quality": None,
            "metadata": True,
            "image": None,
            "mask": None,
            "strength": None,
            "control_image": None,
            "control_scale": None,
            "loras": (),
        }

    async def test_scheduler_determinism_and_step_cache_can_be_chosen(self, wide_service):
        settings = {"scheduler": "DDIMScheduler", "deterministic": True, "step_cache": 0.3}
        job_id = await wide_service.submit(model_id="large", settings=settings)

        chosen = (await wide_service.job(job_id)).request.settings
        assert (chosen.scheduler, chosen.deterministic, chosen.step_cache) == ("DDIMScheduler", True, 0.3)

    async def test_layers_of_clip_can_be_skipped_and_an_image_made_again_likewise(self, service):
        image, _ = await service.make_image(settings={"clip_skip": 2})
        replayed = (await service.http.post(f"/api/image/{image.id}/replay")).json()["job_id"]

        assert image.metadata["settings"]["clip_skip"] == 2
        assert (await service.job(replayed)).request.settings.clip_skip == 2

    async def test_a_repeat_of_a_request_that_was_stored_before_there_was_a_setting_is_no_other_one(self, service):
        """Rows have no defaults, so they are as an earlier version wrote them."""
        headers = {"Idempotency-Key": "before"}
        body = {"model_id": "shapes", "prompt": PROMPT, "settings": {"seed": 1}}
        first = (await service.http.post("/api/generate", json=body, headers=headers)).json()["job_id"]
        for settings in ({"seed": 1}, {"seed": 1, "clip_skip": 0}):
            again = await service.http.post("/api/generate", json=body | {"settings": settings}, headers=headers)
            assert again.json()["job_id"] == first
        other = body | {"settings": {"seed": 1, "clip_skip": 1}}
        sentence(await service.http.post("/api/generate", json=other, headers=headers), 409)

    async def test_null_is_the_same_as_left_out(self, service):
        settings = dict.fromkeys(SettingsBody.model_fields)
        job_id = await service.submit(negative_prompt=None, settings=settings, image=None, mask=None)

        request = (await service.job(job_id)).request
        assert request.negative_prompt == ""
        assert request.settings.num_images == 1
        assert await service.submit(settings=None)

    async def test_numbers_may_come_as_text(self, service):
        job_id = await service.submit(settings={"num_images": "3", "guidance_scale": "2.5", "seed": "7"})

        settings = (await service.job(job_id)).request.settings
        assert (settings.num_images, settings.guidance_scale, settings.seed) == (3, 2.5, 7)

    async def test_a_fixed_number_of_steps_is_the_default(self, wide_service):
        job_id = await wide_service.submit(model_id="fast")

        assert (await wide_service.job(job_id)).request.settings.num_inference_steps == 2

    async def test_any_text_that_can_be_stored_comes_back_unchanged(self, service):
        prompt = "  кот 🐈 \u202e\u0001 <b>' OR 1=1 --\r\n\ud7ff "
        job_id = await service.submit(prompt=prompt)

        assert (await status(service, job_id))["prompt"] == prompt

    async def test_a_full_queue_is_503_and_says_when_to_try_again(self, tmp_path):
        async with api_service(tmp_path, queue_limit=1) as service:
            await service.submit()
            response = await service.http.post("/api/generate", json={"model_id": "shapes", "prompt": PROMPT})

            assert sentence(response, 503) == "The queue is full (1 may wait); try again later."
            assert response.headers["Retry-After"] == "10"


class TestStatus:
    async def test_pending(self, service):
        await service.submit()
        answer = await status(service, await service.submit(settings={"num_images": 2}))

        assert list(answer) == STATUS_KEYS
        assert list(answer["progress"]) == PROGRESS_KEYS
        assert list(answer["settings"]) == SETTINGS_KEYS
        assert (answer["status"], answer["queue_position"], answer["images"]) == ("pending", 2, [])
        assert (answer["started_at"], answer["completed_at"], answer["cancel_requested"]) == (None, None, False)
        assert flags(answer) == set()
        assert (answer["progress"]["step"], answer["progress"]["total_steps"]) == (0, 40)

    async def test_every_phase_has_its_flag(self, service):
        job_id = await service.submit()
        claim = await service.start()
        assert flags(await status(service, job_id)) == {"preparing"}

        for phase in JobPhase:
            await service.report(claim, phase, step=3)
            answer = await status(service, job_id)

            assert flags(answer) == {phase.value}
            assert (answer["status"], answer["queue_position"]) == ("processing", None)
            assert answer["progress"]["step"] == 3

    async def test_completed(self, service):
        job_id = await service.submit(settings={"num_images": 2, "seed": 7})
        images = await service.finish(await service.start())
        answer = await status(service, job_id)

        assert list(answer) == STATUS_KEYS
        assert (answer["status"], flags(answer)) == ("completed", {"completed"})
        assert [list(image) for image in answer["images"]] == [["id", "file_path", "created_at", "metadata"]] * 2
        assert [image["id"] for image in answer["images"]] == [image.id for image in images]
        assert [image["metadata"]["settings"]["seed"] for image in answer["images"]] == [7, 8]
        for image in answer["images"]:
            assert (await service.http.get(image["file_path"])).headers["content-type"] == "image/png"

    async def test_times_are_utc_with_z(self, service):
        job_id = await service.submit()
        await service.finish(await service.start())
        answer = await status(service, job_id)

        times = [answer[name] for name in ("created_at", "started_at", "completed_at")]
        for time in [*times, answer["images"][0]["created_at"]]:
            assert time.endswith("Z")
            assert datetime.fromisoformat(time).tzinfo
        assert times == sorted(times)

    async def test_failed_tells_why(self, service):
        job_id = await service.submit()
        claim = await service.start()
        await service.tracker.fail(job_id, claim.fence, "The GPU is out of memory.", retryable=False)
        answer = await status(service, job_id)

        assert (answer["status"], flags(answer)) == ("failed", {"failed"})
        assert answer["message"] == "The GPU is out of memory."

    async def test_any_spelling_of_the_uuid_is_the_same_job(self, service):
        job_id = await service.submit()

        assert (await status(service, job_id.upper()))["id"] == job_id


class TestCancel:
    async def test_a_waiting_job_is_cancelled_at_once_and_again_is_harmless(self, service):
        job_id = await service.submit()
        for _ in range(2):
            response = await service.http.delete(f"/api/jobs/{job_id}")

            answer = response.json()
            assert response.status_code == 200
            assert list(answer) == STATUS_KEYS
            assert (answer["status"], answer["message"]) == ("cancelled", "Cancelled while it waited.")

    async def test_a_running_job_is_asked_to_stop(self, service):
        job_id = await service.submit()
        claim = await service.start()
        answer = (await service.http.delete(f"/api/jobs/{job_id}")).json()

        assert (answer["status"], answer["cancel_requested"]) == ("processing", True)
        assert await service.report(claim, JobPhase.GENERATING) == {job_id}
        await service.tracker.confirm_cancel(job_id, claim.fence)
        answer = await status(service, job_id)
        assert (answer["status"], answer["cancel_requested"]) == ("cancelled", False)

    async def test_a_completed_job_stays(self, service):
        job_id = await service.submit()
        await service.finish(await service.start())

        assert (await service.http.delete(f"/api/jobs/{job_id}")).json()["status"] == "completed"


class TestUnknownIds:
    @pytest.mark.parametrize("method_and_path", ["GET /api/status", "DELETE /api/jobs"])
    @pytest.mark.parametrize(
        "job_id", [UNKNOWN, "1", "null", "..%2F..%2Fetc%2Fpasswd", "%2e%2e", "%00", "'; DROP TABLE jobs", "a" * 5000]
    )
    async def test_are_404(self, service, method_and_path, job_id):
        method, path = method_and_path.split()
        message = sentence(await service.http.request(method, f"{path}/{job_id}"), 404)

        assert message.startswith("There is no")

    async def test_a_path_that_climbs_is_404(self, service):
        assert sentence(await service.http.get("/api/status/../../etc/passwd"), 404)


class TestIdempotencyKey:
    async def test_a_repeated_request_is_one_job(self, service):
        body = {"model_id": "shapes", "prompt": PROMPT}
        answers = [
            (await service.http.post("/api/generate", json=body, headers={"Idempotency-Key": key})).json()["job_id"]
            for key in ("first", "first", "second")
        ]
        assert answers[0] == answers[1] != answers[2]
        assert (await service.http.get("/api/queue")).json()["total"] == 2

    async def test_the_key_of_another_request_is_refused(self, service):
        headers = {"Idempotency-Key": "first"}
        body = {"model_id": "shapes", "prompt": PROMPT, "settings": {"seed": 1}}
        assert (await service.http.post("/api/generate", json=body, headers=headers)).status_code == 200
        for other in ({"prompt": "a blue ring"}, {"settings": {"seed": 2}}):
            answer = await service.http.post("/api/generate", json=body | other, headers=headers)
            assert "another request" in sentence(answer, 409)
        assert (await service.http.get("/api/queue")).json()["total"] == 1
