"""Calls to clients when their jobs have ended, against a real server."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import httpx
import pytest

from deployments.jobs.queue.outbox import WebhookState
from deployments.jobs.store import JobStore
from deployments.settings.service import WebhookSettings
from deployments.tracker.webhooks import Courier
from tests.support.api_service import api_service, sentence
from tests.support.job_samples import LIMIT, claimed, complete, image, request, submit
from tests.support.job_trackers import job_tracker, submit_to
from tests.support.webhook_receiver import DOWN, webhook_receiver
from tests.unit.tracker.test_webhook_urls import answer_with

pytestmark = pytest.mark.timeout(60)

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
NOON = 1_893_499_200  # seconds since 1970


@pytest.fixture
async def receiver():
    async with webhook_receiver() as receiver:
        yield receiver


@pytest.fixture
async def make_courier(store):
    made = []

    def make(transport: httpx.AsyncBaseTransport | None = None, **settings) -> Courier:
        known = WebhookSettings(**{"allow_private": True, "max_attempts": 3} | settings)
        made.append(Courier(store, known, unix_time=lambda: NOON, transport=transport))
        return made[-1]

    yield make
    for courier in made:
        await courier._http.aclose()


async def ended(store: JobStore, url: str, job_id: str = "a") -> None:
    """A job that was cancelled, and wants a call."""
    await submit(store, job_id, request().model_copy(update={"webhook_url": url}), LIMIT)
    await store.jobs.cancel(job_id)


async def webhook(store: JobStore, job_id: str = "a"):
    return (await store.views.of([job_id])).views[job_id].webhook


class TestOutbox:
    @pytest.mark.parametrize("end", ["complete", "fail", "give up", "cancel", "cancel while it runs", "reap"])
    async def test_every_end_of_a_job_makes_its_call_due_once(self, store, clock, receiver, make_courier, end):
        await submit(store, "a", request().model_copy(update={"webhook_url": receiver.url()}), LIMIT)
        assert (await webhook(store)).state is WebhookState.WAITING
        if end == "cancel":
            await store.jobs.cancel("a")
        else:
            (claim,) = await claimed(store, "claim")
            if end == "complete":
                for _ in range(2):
                    await complete(store, "a", claim.fence, [image("a")])
            elif end in ("fail", "give up"):
                max_attempts = 1 if end == "give up" else None
                await store.attempts.fail("a", claim.fence, "Out of luck.", max_attempts)
            elif end == "reap":
                clock.advance(minutes=5)
                await store.attempts.reap(1)
            else:
                await store.jobs.cancel("a")
                await store.attempts.confirm_cancel("a", claim.fence)
        assert (await webhook(store)).state is WebhookState.DUE

        assert await make_courier().deliver_due() == 1
        assert await make_courier().deliver_due() == 0
        assert len(receiver.calls) == 1
        assert (await webhook(store)).state is WebhookState.DELIVERED

    async def test_a_job_that_goes_on_makes_none_due(self, store, receiver, make_courier):
        await submit(store, "a", request().model_copy(update={"webhook_url": receiver.url()}), LIMIT)
        (claim,) = await claimed(store, "claim")
        await store.attempts.fail("a", claim.fence, "Again.", max_attempts=2)

        assert await make_courier().deliver_due() == 0

    async def test_a_job_without_a_url_makes_none_due(self, store, make_courier):
        await submit(store, "a", request(), LIMIT)
        await store.jobs.cancel("a")

        assert await make_courier().deliver_due() == 0
        assert await webhook(store) is None

    async def test_several_couriers_make_each_call_once(self, store, receiver, make_courier):
        for number in range(20):
            await ended(store, receiver.url(), f"job {number}")
        couriers = [make_courier() for _ in range(4)]
        while any(await asyncio.gather(*(courier.deliver_due() for courier in couriers))):
            pass

        told = [json.loads(call.body)["id"] for call in receiver.calls]
        assert sorted(told) == sorted(f"job {number}" for number in range(20))

    async def test_a_courier_that_died_is_replaced_once_its_lease_has_lapsed(
        self, store, clock, receiver, make_courier
    ):
        await ended(store, receiver.url())
        courier = make_courier()
        (delivery,) = await store.outbox.claim(1, courier._lease)
        assert await courier.deliver_due() == 0

        clock.advance(minutes=1)
        assert await courier.deliver_due() == 1
        await store.outbox.failed(delivery, "Too late.", None)
        assert (await webhook(store)).state is WebhookState.DELIVERED


class TestCall:
    async def test_tells_what_the_status_tells(self, store, receiver, make_courier):
        await submit(store, "a", request().model_copy(update={"webhook_url": receiver.url()}), LIMIT)
        (claim,) = await claimed(store, "claim")
        await complete(store, "a", claim.fence, [image("a")])
        await make_courier().deliver_due()

        (call,) = receiver.calls
        assert call.path == "/hook?key=1"
        assert call.headers["content-type"] == "application/json"
        assert call.headers["host"] == f"127.0.0.1:{receiver.port}"
        assert call.headers["x-cyberimage-event"] == "job.completed"
        assert json.loads(call.body) == {
            "id": "a",
            "status": "completed",
            "model_id": "tiny",
            "message": "",
            "created_at": "2030-01-01T00:00:00.000Z",
            "completed_at": "2030-01-01T00:00:00.000Z",
            "images": [{"id": "a-0", "file_path": "/api/image/a-0"}],
        }

    async def test_without_a_secret_is_not_signed(self, store, receiver, make_courier):
        await ended(store, receiver.url())
        await make_courier().deliver_due()
        assert "x-cyberimage-signature" not in receiver.calls[0].headers

    async def test_is_accepted_by_the_verification_in_the_docs(self, store, receiver, make_courier):
        await ended(store, receiver.url())
        await make_courier(secret="whsec").deliver_due()
        (call,) = receiver.calls
        (snippet,) = re.findall(r"```python\n(import hashlib.*?)```", PAGE, re.DOTALL)
        found: dict = {}
        exec(snippet, found)

        signature = call.headers["x-cyberimage-signature"]
        assert found["is_genuine"]("whsec", call.body, signature, now=NOON + 10)
        assert not found["is_genuine"]("whsec", call.body + b" ", signature, now=NOON + 10)
        assert not found["is_genuine"]("other", call.body, signature, now=NOON + 10)
        assert not found["is_genuine"]("whsec", call.body, signature, now=NOON + 3600)

    async def test_goes_to_the_address_that_was_checked(self, store, receiver, make_courier, monkeypatch):
        await ended(store, receiver.url("hook.example"))
        asked = await answer_with(monkeypatch, "127.0.0.1")
        await make_courier(allow_private=False, allowed_hosts=("hook.example",)).deliver_due()

        assert asked.count("hook.example") == 1
        assert receiver.calls[0].headers["host"] == f"hook.example:{receiver.port}"

    async def test_has_the_certificate_of_the_name_checked(self, store, make_courier, monkeypatch):
        await ended(store, "https://hook.example/")
        await answer_with(monkeypatch, "93.184.215.14")
        sent = []

        def answer(request: httpx.Request) -> httpx.Response:
            sent.append(request)
            return httpx.Response(204)

        await make_courier(httpx.MockTransport(answer), allow_private=False).deliver_due()
        (request_sent,) = sent
        assert request_sent.url.host == "93.184.215.14"
        assert request_sent.extensions["sni_hostname"] == "hook.example"
        assert request_sent.headers["Host"] == "hook.example"


class TestFailure:
    async def test_is_tried_again_later_and_each_time_later(self, store, clock, receiver, make_courier):
        receiver.answers = [DOWN, DOWN]
        await ended(store, receiver.url())
        courier = make_courier(first_pause_seconds=10)
        await courier.deliver_due()
        first = await store.outbox.seconds_to_next()
        told = await webhook(store)
        assert (told.state, told.attempts) == (WebhookState.DUE, 1)
        assert told.last_error == "The receiver answered 503."
        assert 5 <= first <= 15
        assert await courier.deliver_due() == 0

        clock.advance(seconds=first)
        await courier.deliver_due()
        assert 10 <= await store.outbox.seconds_to_next() <= 30
        clock.advance(seconds=30)
        await courier.deliver_due()
        assert (await webhook(store)).state is WebhookState.DELIVERED
        assert len({call.headers["x-cyberimage-delivery"] for call in receiver.calls}) == 1

    async def test_is_given_up_after_its_attempts(self, store, clock, receiver, make_courier):
        receiver.answers = [DOWN] * 5
        await ended(store, receiver.url())
        for _ in range(5):
            await make_courier(max_attempts=3).deliver_due()
            clock.advance(hours=2)

        told = await webhook(store)
        assert (told.state, told.attempts, told.last_error) == (WebhookState.DEAD, 3, "The receiver answered 503.")
        assert len(receiver.calls) == 3
        assert await store.outbox.seconds_to_next() is None

    async def test_a_redirect_is_not_followed(self, store, receiver, make_courier):
        receiver.answers = [f"HTTP/1.1 307 Moved\r\nLocation: {receiver.url()}\r\nContent-Length: 0\r\n\r\n".encode()]
        await ended(store, receiver.url())
        await make_courier().deliver_due()

        assert len(receiver.calls) == 1
        assert (await webhook(store)).last_error == "The receiver answered 307; redirects are not followed."

    async def test_a_receiver_that_does_not_answer_is_left(self, store, receiver, make_courier):
        receiver.answers = [None]
        await ended(store, receiver.url())
        await make_courier(timeout_seconds=0.05).deliver_due()
        assert (await webhook(store)).last_error == "No answer came within 0.05 seconds."

    async def test_an_answer_without_an_end_is_not_read(self, store, receiver, make_courier):
        receiver.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n" + b"x" * 100_000]
        await ended(store, receiver.url())
        await make_courier().deliver_due()
        assert (await webhook(store)).state is WebhookState.DELIVERED

    @pytest.mark.parametrize("answer", [b"", b"\x00\xff\r\n\r\n"])
    async def test_what_is_not_http_is_a_failure(self, store, receiver, make_courier, answer):
        receiver.answers = [answer]
        await ended(store, receiver.url())
        await make_courier().deliver_due()
        assert (await webhook(store)).last_error.startswith("The host cannot be called: ")

    async def test_a_private_address_is_given_up_at_once(self, store, receiver, make_courier):
        await ended(store, receiver.url())
        await make_courier(allow_private=False).deliver_due()

        told = await webhook(store)
        assert (told.state, told.attempts) == (WebhookState.DEAD, 1)
        assert told.last_error == "127.0.0.1 has an address that is not public, and may not be called."
        assert receiver.calls == []


async def test_the_tracker_delivers_as_soon_as_a_job_ends(database_url, receiver):
    tracker = job_tracker(database_url, webhooks=WebhookSettings(allow_private=True))
    await submit_to(tracker, "a", request().model_copy(update={"webhook_url": receiver.url()}))
    await tracker.jobs.cancel("a")
    await receiver.calls_come(1)
    await tracker.close()


async def test_what_was_due_when_the_tracker_died_is_delivered_by_the_next(database_url, receiver):
    store = await JobStore.open(database_url)
    await ended(store, receiver.url())
    await store.close()

    tracker = job_tracker(database_url, webhooks=WebhookSettings(allow_private=True))
    await tracker.describe()
    await receiver.calls_come(1)
    await tracker.close()


class TestApi:
    async def test_a_url_that_may_not_be_called_is_refused(self, tmp_path):
        async with api_service(tmp_path) as service:
            for url in ("http://127.0.0.1/", "gopher://example.com", "http://localhost:8000", "x"):
                body = {"model_id": "shapes", "prompt": "a ring", "webhook_url": url}
                message = sentence(await service.http.post("/api/generate", json=body), 400)
                assert message.startswith("webhook_url: ")

    async def test_its_fate_is_in_the_status(self, tmp_path):
        async with api_service(tmp_path, webhooks=WebhookSettings(allow_private=True)) as service:
            job_id = await service.submit(webhook_url="http://127.0.0.1:9/")
            status = (await service.http.get(f"/api/status/{job_id}")).json()
            assert status["webhook"] == {"state": "waiting", "attempts": 0, "last_error": ""}
            assert (await service.http.get(f"/api/status/{await service.submit()}")).json()["webhook"] is None

    async def test_another_url_under_the_same_key_is_another_request(self, tmp_path):
        async with api_service(tmp_path) as service:
            body = {"model_id": "shapes", "prompt": "a ring", "webhook_url": "https://example.com/1"}
            headers = {"Idempotency-Key": "k"}
            first = await service.http.post("/api/generate", json=body, headers=headers)
            assert (await service.http.post("/api/generate", json=body, headers=headers)).json() == first.json()
            other = body | {"webhook_url": "https://example.com/2"}
            assert (await service.http.post("/api/generate", json=other, headers=headers)).status_code == 409
