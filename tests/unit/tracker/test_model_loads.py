"""What a client learns of a cold model's load: how far it is, and, where it is not to wait, when to come again."""

import asyncio

import pytest

from deployments.jobs.queue.views import ModelLoad
from deployments.jobs.records.exceptions import StoreUnavailableError
from deployments.jobs.records.jobs import JobPhase
from deployments.model.replica import announced_load
from deployments.tracker.model_loads import ModelLoads
from tests.support.api_service import CPU_CATALOG, ApiService, api_service
from tests.support.dialects import asked, next_claim
from tests.support.job_samples import Clock

pytestmark = pytest.mark.timeout(60)

OPENAI, AUTOMATIC = "/v1/images/generations", "/sdapi/v1/txt2img"
BODY = {"prompt": "a red circle"}


class TestLoads:
    def test_go_on_between_two_announcements(self) -> None:
        clock = Clock()
        loads = ModelLoads(clock)
        loads.note("model", "one", 2.0, is_over=False)
        clock.advance(seconds=5)

        assert loads.of("model") == ModelLoad(7.0)
        assert loads.of("other") is None

    def test_usually_take_the_median_of_the_last_five(self) -> None:
        loads = ModelLoads(Clock())
        for seconds in (1000, 10, 11, 12, 13, 100):
            loads.note("model", f"after {seconds}", seconds, is_over=True)
        loads.note("model", "now", 4.0, is_over=False)

        load = loads.of("model")
        assert load == ModelLoad(4.0, 12)
        assert load.rest_seconds == 8

    def test_that_take_longer_than_usual_may_end_at_any_moment(self) -> None:
        assert ModelLoad(20.0, 12.0).rest_seconds == 0

    def test_are_told_by_the_copy_that_began_first(self) -> None:
        loads = ModelLoads(Clock())
        loads.note("model", "first", 9.0, is_over=False)
        loads.note("model", "second", 1.0, is_over=False)
        assert loads.of("model") == ModelLoad(9.0)

        loads.note("model", "first", 10.0, is_over=True)
        assert loads.of("model") == ModelLoad(1.0, 10.0)

    def test_of_a_copy_that_fell_silent_are_forgotten(self) -> None:
        clock = Clock()
        loads = ModelLoads(clock)
        loads.note("model", "one", 2.0, is_over=False)
        clock.advance(seconds=50)

        assert loads.of("model") is None


async def test_a_copy_announces_its_load_although_the_tracker_was_away() -> None:
    heard: list[bool] = []
    twice = asyncio.Event()

    class Tracker:
        async def announce_load(self, model_id: str, replica: str, seconds: float, *, is_over: bool) -> None:
            heard.append(is_over)
            if len(heard) == 1:
                raise StoreUnavailableError
            twice.set()

    async with announced_load(Tracker(), "model", every_seconds=0):
        await twice.wait()

    assert heard[:2] == [False, False]
    assert heard[-1]


async def load(service: ApiService) -> None:
    """A copy that has been loading for 4 of usually 12 seconds."""
    await service.tracker.announce_load("shapes", "before", 12.0, is_over=True)
    await service.tracker.announce_load("shapes", "now", 4.0, is_over=False)


async def test_a_job_that_waits_for_its_model_tells_how_far_the_load_is(tmp_path) -> None:
    async with api_service(tmp_path) as service:
        await load(service)
        job_id = await service.submit()
        assert (await service.http.get(f"/api/status/{job_id}")).json()["loading"] is None
        claim = await service.start()
        await service.report(claim, JobPhase.LOADING_MODEL)

        answer = (await service.http.get(f"/api/status/{job_id}")).json()
        assert answer["progress"]["loading_model"]
        assert answer["loading"]["usual_seconds"] == 12.0
        assert 4.0 <= answer["loading"]["seconds"] < 60

        await service.report(claim, JobPhase.GENERATING, 1)
        assert (await service.http.get(f"/api/status/{job_id}")).json()["loading"] is None


class TestClientsThatWait:
    async def test_get_their_image_after_the_load(self, tmp_path) -> None:
        async with api_service(tmp_path) as service, asked(service.http.post(OPENAI, json=BODY)) as asking:
            claim = await next_claim(service)
            await service.report(claim, JobPhase.LOADING_MODEL)
            await service.finish(claim)

            assert (await asking).status_code == 200

    @pytest.mark.parametrize("url", [OPENAI, AUTOMATIC])
    async def test_are_told_when_to_come_again_where_they_are_not_to_wait_for_a_load(self, tmp_path, url) -> None:
        async with (
            api_service(tmp_path, clients={"wait_for_load": False}) as service,
            asked(service.http.post(url, json=BODY)) as asking,
        ):
            await load(service)
            claim = await next_claim(service)
            await service.report(claim, JobPhase.LOADING_MODEL)

            response = await asking
            assert response.status_code == 503
            assert 1 <= int(response.headers["retry-after"]) <= 8
            assert "x-should-retry" not in response.headers
            assert "shapes is being loaded, since " in response.text
            assert "of some 12 seconds" in response.text
            assert (await service.job(claim.job_id)).cancel_requested

    async def test_can_ask_for_the_same_job_again_by_its_key(self, tmp_path) -> None:
        key = {"Idempotency-Key": "mine"}
        async with api_service(tmp_path, clients={"wait_for_load": False}) as service:
            async with asked(service.http.post(OPENAI, json=BODY, headers=key)) as asking:
                claim = await next_claim(service)
                await service.report(claim, JobPhase.LOADING_MODEL)
                response = await asking
            assert (response.status_code, response.headers["retry-after"]) == (503, "30")

            await service.finish(claim)
            again = await service.http.post(OPENAI, json=BODY, headers=key)
            assert again.status_code == 200
            assert again.headers["x-job-id"] == claim.job_id

    async def test_wait_for_a_loaded_model_in_any_case(self, tmp_path) -> None:
        fingerprint = CPU_CATALOG.get("shapes").fingerprint
        async with api_service(tmp_path, clients={"wait_for_load": False}) as service:
            await service.tracker.announce_model("shapes", fingerprint, "", "copy")
            async with asked(service.http.post(OPENAI, json=BODY)) as asking:
                claim = await next_claim(service)
                await service.report(claim, JobPhase.LOADING_MODEL)
                await service.finish(claim)

                assert (await asking).status_code == 200
