"""The OpenAI dialect: images from prompts and pictures, at once and as events."""

from __future__ import annotations

import base64

import pytest

from deployments.jobs.records.api_keys import NewKey, Scope, hash_of, make_key
from deployments.jobs.records.jobs import JobPhase, JobState, ProgressReport
from deployments.tracker.previews import encode_preview
from tests.support.api_service import PICTURE, api_service
from tests.support.dialects import asked, cancellation, drawn, next_claim, openai_error, opened
from tests.support.event_stream import open_stream

pytestmark = pytest.mark.timeout(60)

URL = "/v1/images/generations"
PROMPT = "a red circle"
BODY = {"prompt": PROMPT}


@pytest.fixture
async def service(tmp_path):
    async with api_service(
        tmp_path, clients={"model_aliases": {"dall-e-2": "", "best": "shapes", "gone": "lost"}}
    ) as it:
        yield it


async def refused(service, status=400, **body):
    response = await service.http.post(URL, json=BODY | body)
    assert (await service.tracker.counts.by_state()).total == 0
    assert "x-should-retry" not in response.headers
    return openai_error(response, status)


class TestModels:
    async def test_have_their_own_and_other_names(self, service):
        answer = (await service.http.get("/v1/models")).json()

        assert answer["object"] == "list"
        assert [model["id"] for model in answer["data"]] == ["shapes", "dall-e-2", "best"]
        assert answer["data"][0] == {"id": "shapes", "object": "model", "created": 0, "owned_by": "cyberimage"}
        assert (await service.http.get("/v1/models/best")).json()["id"] == "best"

    async def test_that_there_are_not_are_404(self, service):
        for name in ("nothing", "gone"):
            error = openai_error(await service.http.get(f"/v1/models/{name}"), 404)
            assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert (await refused(service, 404, model="nothing"))["code"] == "model_not_found"


class TestGenerations:
    async def test_answer_with_the_image_and_the_job(self, service):
        response, claim = await drawn(service, service.http.post(URL, json=BODY | {"seed": 7}))
        answer, (image,) = response.json(), await service.tracker.images.of_jobs([claim.job_id])

        assert response.status_code == 200
        assert response.headers["X-Job-ID"] == claim.job_id
        assert base64.b64decode(answer["data"][0].pop("b64_json")) == await service.storage.read(image.key)
        assert answer.pop("created") == int((await service.job(claim.job_id)).completed_at.timestamp())
        assert answer == {
            "data": [{}],
            "output_format": "png",
            "size": "64x64",
            "quality": "auto",
            "background": "opaque",
            "usage": {
                "input_tokens": 3,
                "input_tokens_details": {"text_tokens": 3, "image_tokens": 0},
                "output_tokens": 20,
                "total_tokens": 23,
            },
        }

    async def test_every_field_becomes_the_jobs(self, service):
        body = {
            "prompt": PROMPT,
            "model": "best",
            "n": 2,
            "size": "64x64",
            "response_format": "b64_json",
            "output_format": "webp",
            "output_compression": 55,
            "quality": "hd",
            "background": "opaque",
            "moderation": "low",
            "style": "vivid",
            "user": "ann",
            "stream": False,
            "partial_images": 0,
            "negative_prompt": "fog",
            "num_inference_steps": 4,
            "guidance_scale": 2.5,
            "seed": 9,
        }
        response, claim = await drawn(service, service.http.post(URL, json=body))
        settings, answer = claim.request.settings, response.json()

        assert (claim.request.model_id, claim.request.negative_prompt) == ("shapes", "fog")
        assert (settings.num_images, settings.num_inference_steps, settings.guidance_scale) == (2, 4, 2.5)
        assert (settings.seed, settings.output_format, settings.quality) == (9, "webp", 55)
        assert (answer["quality"], answer["output_format"], len(answer["data"])) == ("high", "webp", 2)
        assert opened(base64.b64decode(answer["data"][1]["b64_json"])).format == "WEBP"

    async def test_null_is_left_out(self, service):
        nothing = dict.fromkeys(("model", "n", "size", "seed", "output_compression", "quality", "user", "stream"))
        response, claim = await drawn(service, service.http.post(URL, json=BODY | nothing))

        assert response.status_code == 200
        assert claim.request.settings.num_images == 1

    @pytest.mark.parametrize(
        ("body", "has"),
        [
            ({"model": "dall-e-2"}, "url"),
            ({"model": "dall-e-2", "response_format": "b64_json"}, "b64_json"),
            ({"model": "shapes", "response_format": "url"}, "url"),
            ({}, "b64_json"),
        ],
    )
    async def test_an_image_comes_as_it_would_from_such_a_model(self, service, body, has):
        response, claim = await drawn(service, service.http.post(URL, json=BODY | body))

        (image,) = response.json()["data"]
        assert list(image) == [has]
        if has == "url":
            (made,) = await service.tracker.images.of_jobs([claim.job_id])
            assert image["url"] == f"http://localhost/api/image/{made.id}"
            assert (await service.http.get(image["url"])).content == await service.storage.read(made.key)

    async def test_an_idempotency_key_makes_one_job(self, service):
        headers = {"Idempotency-Key": "once"}
        first, _ = await drawn(service, service.http.post(URL, json=BODY, headers=headers))
        again = await service.http.post(URL, json=BODY, headers=headers)
        other = await service.http.post(URL, json={"prompt": "a blue star"}, headers=headers)

        assert again.json() == first.json()
        assert again.headers["X-Job-ID"] == first.headers["X-Job-ID"]
        assert openai_error(other, 409)
        assert other.headers["x-should-retry"] == "false"

    async def test_png_takes_the_compression_that_clients_send_by_default(self, service):
        response, _ = await drawn(service, service.http.post(URL, json=BODY | {"output_compression": 100}))
        assert response.status_code == 200

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({"prompt": None}, "prompt"),
            ({"prompt": " "}, "prompt"),
            ({"n": 9}, "n"),
            ({"n": 0}, "n"),
            ({"n": True}, "n"),
            ({"size": "65x64"}, "size"),
            ({"size": "128x128"}, "size"),
            ({"size": "large"}, "size"),
            ({"response_format": "file"}, "response_format"),
            ({"output_format": "gif"}, "output_format"),
            ({"output_compression": 101, "output_format": "webp"}, "output_compression"),
            ({"output_compression": 50}, "output_compression"),
            ({"quality": "best"}, "quality"),
            ({"background": "transparent"}, "background"),
            ({"partial_images": 4, "stream": True}, "partial_images"),
            ({"num_inference_steps": 0}, "num_inference_steps"),
            ({"guidance_scale": 99}, "guidance_scale"),
            ({"seed": -1}, "seed"),
            ({"steps": 3}, "steps"),
            ({"strength": 0.5}, "strength"),
        ],
    )
    async def test_a_bad_field_is_named_as_the_client_calls_it(self, service, body, param):
        error = await refused(service, **body)

        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, "invalid_request")
        assert error["message"].startswith(f"{param}: ")
        assert "settings." not in error["message"]


class TestErrors:
    async def test_of_a_job_say_not_to_repeat_it(self, service):
        async with asked(service.http.post(URL, json=BODY)) as waiting:
            claim = await next_claim(service)
            await service.tracker.fail(claim.job_id, claim.fence, "The model broke.", retryable=False)
            failed = await waiting
        assert openai_error(failed, 500) == {
            "message": "The model broke.",
            "type": "server_error",
            "param": None,
            "code": "job_failed",
        }
        assert (failed.headers["x-should-retry"], failed.headers["X-Job-ID"]) == ("false", claim.job_id)

    async def test_of_a_cancelled_job(self, service):
        async with asked(service.http.post(URL, json=BODY)) as waiting:
            claim = await next_claim(service)
            await service.tracker.jobs.cancel(claim.job_id)
            await service.tracker.confirm_cancel(claim.job_id, claim.fence)
            cancelled = await waiting
        assert openai_error(cancelled, 409)["code"] == "job_cancelled"
        assert cancelled.headers["x-should-retry"] == "false"

    async def test_of_a_full_queue_says_when_to_come_back(self, tmp_path):
        async with api_service(tmp_path, queue_limit=1) as service:
            await service.submit()
            full = await service.http.post(URL, json=BODY)
        assert openai_error(full, 503)["code"] == "queue_full"
        assert int(full.headers["Retry-After"]) > 0
        assert "x-should-retry" not in full.headers

    async def test_of_an_answer_that_takes_too_long(self, tmp_path):
        async with api_service(tmp_path, answer_seconds=1.0) as service:
            await service.tracker.counts.by_state()  # the database is open: the job is queued within the time
            late = await service.http.post(URL, json=BODY)
            assert openai_error(late, 504)["code"] == "no_answer_in_time"
            assert late.headers["x-should-retry"] == "false"
            assert (await service.job(late.headers["X-Job-ID"])).state is JobState.PENDING

    async def test_of_what_is_not_there_and_not_json(self, service):
        assert openai_error(await service.http.get("/v1/nothing"), 404)["code"] == "not_found"
        assert openai_error(await service.http.get(URL), 405)["type"] == "invalid_request_error"
        headers = {"Content-Type": "application/json"}
        assert openai_error(await service.http.post(URL, content=b"{", headers=headers), 400)["param"] == "body"
        assert openai_error(await service.http.post(URL, content=b"0" * 2**21, headers=headers), 413)


class TestKeys:
    @pytest.fixture
    async def protected(self, tmp_path):
        async with api_service(tmp_path, auth={"mode": "keys", "cache_seconds": 0}) as service:
            yield service

    async def key(self, service, *scopes, name="ann"):
        key_id, key = make_key()
        await service.tracker.keys.add(key_id, hash_of(key), NewKey(name=name, scopes=scopes), "root")
        return {"Authorization": f"Bearer {key}"}

    async def test_are_asked_for_in_this_form(self, protected):
        missing = openai_error(await protected.http.post(URL, json=BODY), 401)
        assert (missing["type"], missing["code"]) == ("authentication_error", "missing_api_key")
        wrong = openai_error(await protected.http.get("/v1/models", headers={"Authorization": "Bearer sk-1"}), 401)
        assert wrong["code"] == "invalid_api_key"
        reader = await self.key(protected, Scope.READ)
        assert (
            openai_error(await protected.http.post(URL, json=BODY, headers=reader), 403)["type"] == "permission_error"
        )

    async def test_an_url_opens_without_one(self, protected):
        ann = await self.key(protected, Scope.GENERATE)
        request = protected.http.post(URL, json=BODY | {"response_format": "url"}, headers=ann)
        response, _ = await drawn(protected, request)
        url = response.json()["data"][0]["url"]

        assert "signature=" in url
        assert (await protected.http.get(url)).headers["content-type"] == "image/png"


class TestLeaving:
    async def test_cancels_the_job_where_that_is_configured(self, tmp_path):
        async with api_service(tmp_path, clients={"cancel_on_disconnect": True}) as service:
            async with asked(service.http.post(URL, json=BODY)):
                claim = await next_claim(service)
            await cancellation(service, claim)

    async def test_leaves_the_job_alone_otherwise(self, service):
        async with asked(service.http.post(URL, json=BODY)):
            claim = await next_claim(service)
        await service.finish(claim)  # no cancelling is under way that could come first
        assert (await service.job(claim.job_id)).state is JobState.COMPLETED

    async def test_of_a_stream_cancels_too(self, tmp_path):
        async with api_service(tmp_path, clients={"cancel_on_disconnect": True}) as service:
            async with open_stream(service.app, URL, body=BODY | {"stream": True, "partial_images": 1}) as stream:
                claim = await next_claim(service)
                assert stream.status == 200
            await cancellation(service, claim)


class TestStreaming:
    async def report(self, service, claim, step, shade):
        small = encode_preview((PICTURE * shade).astype("uint8"))
        done = ProgressReport(
            job_id=claim.job_id, fence=claim.fence, phase=JobPhase.GENERATING, step=step, preview=small
        )
        await service.tracker.report([done])

    async def test_sends_pictures_of_steps_in_between_and_the_image(self, service):
        body = BODY | {"stream": True, "partial_images": 2, "output_format": "jpeg", "num_inference_steps": 9}
        async with open_stream(service.app, URL, body=body) as stream:
            claim = await next_claim(service)
            assert (stream.status, stream.headers["x-job-id"]) == (200, claim.job_id)
            await self.report(service, claim, 1, 50)
            await self.report(service, claim, 4, 250)
            first = await stream.event()
            await self.report(service, claim, 7, 100)
            second = await stream.event()
            await self.report(service, claim, 8, 60)
            await service.finish(claim)
            last = await stream.event()
            assert await stream.rest() == []

        for index, event in enumerate((first, second)):
            assert event.name == event.data["type"] == "image_generation.partial_image"
            assert event.data["partial_image_index"] == index
            assert (event.data["size"], event.data["output_format"]) == ("64x64", "jpeg")
            shown = opened(base64.b64decode(event.data["b64_json"]))
            assert (shown.format, shown.size) == ("JPEG", (64, 64))
        assert last.name == last.data["type"] == "image_generation.completed"
        assert last.data["usage"]["output_tokens"] == 9
        (image,) = await service.tracker.images.of_jobs([claim.job_id])
        assert base64.b64decode(last.data["b64_json"]) == await service.storage.read(image.key)

    async def test_sends_each_image_of_several(self, service):
        async with open_stream(service.app, URL, body=BODY | {"stream": True, "n": 2}) as stream:
            await service.finish(await next_claim(service))
            assert [await stream.event(), await stream.event()]
            assert await stream.rest() == []

    async def test_ends_with_an_error_where_the_job_fails(self, service):
        async with open_stream(service.app, URL, body=BODY | {"stream": True}) as stream:
            claim = await next_claim(service)
            await service.tracker.fail(claim.job_id, claim.fence, "The model broke.", retryable=False)
            event = await stream.event()
            assert await stream.rest() == []
        assert event.name == "error"
        assert event.data["error"]["message"] == "The model broke."

    async def test_a_bad_request_is_answered_with_its_status(self, service):
        assert (await refused(service, stream=True, n=99))["param"] == "n"
