"""OpenAI's own client, unmodified, against the running service; and its errors, against the application in memory."""

from __future__ import annotations

import base64
import io

import httpx
import httpx2
import openai
import PIL.Image
import pytest

from deployments.jobs.records.api_keys import NewKey, Scope, hash_of, make_key
from tests.support.api_service import api_service
from tests.support.dialects import asked, next_claim
from tests.support.service import pixels, shown

PROMPT = "a large red circle on a blue background"
SHOWN = ("circle", "red", "blue")


@pytest.fixture
def client(service):
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="any", max_retries=0)


def decoded(image):
    return base64.b64decode(image.b64_json)


class TestImages:
    def test_models(self, client):
        assert "shapes" in [model.id for model in client.models.list()]
        assert client.models.retrieve("gpt-image-1").id == "gpt-image-1"

    def test_an_image_is_what_was_asked_for(self, client, service):
        raw = client.images.with_raw_response.generate(prompt=PROMPT, model="shapes", extra_body={"seed": 7})
        answer, job_id = raw.parse(), raw.headers["X-Job-ID"]

        assert shown(decoded(answer.data[0])) == SHOWN
        assert (answer.size, answer.output_format) == ("64x64", "png")
        assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
        assert service.status(job_id)["settings"]["seed"] == 7

    def test_an_url_opens_in_a_browser(self, client):
        answer = client.images.generate(prompt=PROMPT, model="dall-e-2", n=2, size="64x64")

        assert len(answer.data) == 2
        for image in answer.data:
            fetched = httpx.get(image.url)
            assert fetched.headers["content-type"] == "image/png"
            assert pixels(fetched.content).shape == (64, 64, 3)

    def test_webp_is_smaller_with_more_compression(self, client):
        sizes = [
            len(
                decoded(
                    client.images.generate(
                        prompt=PROMPT, output_format="webp", output_compression=quality, extra_body={"seed": 7}
                    ).data[0]
                )
            )
            for quality in (10, 95)
        ]
        assert sizes[0] < sizes[1]

    def test_partial_images_are_real(self, client):
        events = list(
            client.images.generate(
                prompt=PROMPT, stream=True, partial_images=2, extra_body={"num_inference_steps": 100, "seed": 7}
            )
        )
        *partial, last = events

        assert partial
        assert [event.type for event in partial] == ["image_generation.partial_image"] * len(partial)
        assert [event.partial_image_index for event in partial] == list(range(len(partial)))
        assert last.type == "image_generation.completed"
        assert len({event.b64_json for event in events}) == len(events)
        assert all(pixels(decoded(event)).shape == (64, 64, 3) for event in events)

    async def test_asynchronously(self, service):
        async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="any", max_retries=0) as client:
            answer = await client.images.generate(prompt=PROMPT, extra_body={"seed": 7})
            stream = await client.images.generate(prompt=PROMPT, stream=True, extra_body={"seed": 7})
            events = [event async for event in stream]
        once, again = (pixels(decoded(image)).astype(int) for image in (answer.data[0], events[-1]))
        assert abs(once - again).max() <= 1

    def test_an_edit_keeps_what_the_mask_keeps(self, client):
        start = PIL.Image.new("RGB", (64, 64), "blue")
        mask = PIL.Image.new("RGBA", (64, 64), (0, 0, 0, 255))
        mask.paste((0, 0, 0, 0), (0, 0, 32, 64))
        files = {}
        for name, picture in (("image", start), ("mask", mask)):
            files[name] = io.BytesIO()
            picture.save(files[name], "PNG")
            files[name].name = f"{name}.png"
        answer = client.images.edit(**{name: file.getvalue() for name, file in files.items()}, prompt=PROMPT)
        events = list(client.images.edit(image=files["image"].getvalue(), prompt=PROMPT, stream=True))

        assert pixels(decoded(answer.data[0])).shape == (64, 64, 3)
        assert events[-1].type == "image_edit.completed"

    def test_errors_of_the_service_have_classes(self, client):
        with pytest.raises(openai.BadRequestError) as bad:
            client.images.generate(prompt=PROMPT, n=99)
        assert (bad.value.param, bad.value.code, bad.value.type) == ("n", "invalid_request", "invalid_request_error")
        with pytest.raises(openai.NotFoundError) as unknown:
            client.images.generate(prompt=PROMPT, model="nothing")
        assert unknown.value.code == "model_not_found"


class Counted(httpx2.ASGITransport):
    """The application in memory; counts the requests."""

    def __init__(self, app):
        super().__init__(app, client=("10.1.2.3", 4567))
        self.count = 0

    async def handle_async_request(self, request):
        self.count += 1
        return await super().handle_async_request(request)


def in_memory(service, key="any", **options):
    """OpenAI's client on an application in memory, and its transport."""
    transport = Counted(service.app)
    http = httpx2.AsyncClient(transport=transport, base_url="http://localhost/v1")
    return openai.AsyncOpenAI(base_url="http://localhost/v1", api_key=key, http_client=http, **options), transport


class TestRetries:
    """The client repeats 408, 409, 429 and 5xx twice unless it is told not to."""

    @pytest.mark.parametrize(
        ("limit", "error"),
        [("queue_limit", openai.InternalServerError), ("queue_limit_per_client", openai.RateLimitError)],
    )
    async def test_a_full_queue_is_tried_again(self, tmp_path, monkeypatch, limit, error):
        monkeypatch.setattr("openai._base_client.AsyncAPIClient._sleep_for_retry", _no_sleep)
        async with api_service(tmp_path, **{limit: 1}) as service:
            client, transport = in_memory(service)
            await service.submit()
            with pytest.raises(error) as full:
                await client.images.generate(prompt=PROMPT)
            assert full.value.code in ("queue_full", "too_many_jobs")
            assert int(full.value.response.headers["Retry-After"]) > 0
        assert transport.count == 3

    async def test_a_job_that_failed_is_not(self, tmp_path):
        async with api_service(tmp_path) as service:
            client, transport = in_memory(service)
            async with asked(client.images.generate(prompt=PROMPT)) as waiting:
                claim = await next_claim(service)
                await service.tracker.fail(claim.job_id, claim.fence, "The model broke.", retryable=False)
                with pytest.raises(openai.InternalServerError, match="The model broke"):
                    await waiting
        assert transport.count == 1

    async def test_a_job_that_was_cancelled_is_not(self, tmp_path):
        async with api_service(tmp_path) as service:
            client, transport = in_memory(service)
            async with asked(client.images.generate(prompt=PROMPT)) as waiting:
                claim = await next_claim(service)
                await service.tracker.jobs.cancel(claim.job_id)
                await service.tracker.confirm_cancel(claim.job_id, claim.fence)
                with pytest.raises(openai.ConflictError):
                    await waiting
        assert transport.count == 1

    async def test_a_stream_that_fails_raises(self, tmp_path):
        async with api_service(tmp_path) as service:
            client, transport = in_memory(service)

            async def read():
                return [event async for event in await client.images.generate(prompt=PROMPT, stream=True)]

            async with asked(read()) as waiting:
                claim = await next_claim(service)
                await service.tracker.fail(claim.job_id, claim.fence, "The model broke.", retryable=False)
                with pytest.raises(openai.APIError, match="The model broke"):
                    await waiting
        assert transport.count == 1


class TestKeys:
    async def test_errors_have_classes(self, tmp_path):
        async with api_service(tmp_path, auth={"mode": "keys", "cache_seconds": 0}) as service:
            key_id, key = make_key()
            await service.tracker.keys.add(key_id, hash_of(key), NewKey(name="ann", scopes=(Scope.READ,)), "root")
            reader, _ = in_memory(service, key)
            stranger, _ = in_memory(service, "sk-wrong")

            assert (await reader.models.list()).data
            with pytest.raises(openai.PermissionDeniedError):
                await reader.images.generate(prompt=PROMPT)
            with pytest.raises(openai.AuthenticationError) as wrong:
                await stranger.models.list()
            assert wrong.value.code == "invalid_api_key"


async def _no_sleep(*_args, **_options):
    pass
