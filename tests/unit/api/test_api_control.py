"""Batches, lists, retries, priorities, paused and cleared queues over HTTP."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deployments.jobs.records.jobs import JobState, PriorityClass
from deployments.jobs.store import JobStore
from tests.support.api_service import PROMPT, WIDE_CATALOG, api_service, sentence

UNKNOWN = "00000000-0000-4000-8000-000000000000"
JOB = {"model_id": "shapes", "prompt": PROMPT}


async def fail_one(service) -> str:
    job_id = await service.submit()
    claim = await service.start()
    await service.tracker.fail(job_id, claim.fence, "Out of luck.", retryable=False)
    return job_id


async def total(service) -> int:
    return (await service.http.get("/api/queue")).json()["total"]


class TestSubmit:
    async def test_priority_and_expiry_are_kept_and_told(self, service):
        job_id = await service.submit(priority="high", expires_in=60)
        answer = (await service.http.get(f"/api/status/{job_id}")).json()
        job = await service.job(job_id)
        assert (answer["priority"], answer["retry_of"]) == ("high", None)
        assert job.expires_at - job.created_at == timedelta(seconds=60)
        assert answer["expires_at"].endswith("Z")
        assert (await service.start()).priority is PriorityClass.HIGH

    async def test_the_service_may_let_jobs_expire_that_do_not_ask_for_it(self, tmp_path):
        async with api_service(tmp_path, queue={"expires_in": 30}) as service:
            assert (await service.job(await service.submit())).request.expires_in == 30
            assert (await service.job(await service.submit(expires_in=5))).request.expires_in == 5

    @pytest.mark.parametrize(
        ("field", "value", "told"),
        [
            ("priority", "urgent", "priority: input should be 'high', 'normal' or 'low'."),
            ("expires_in", 0, "expires_in: 0 is not possible; it is 1 to 31536000 seconds."),
            ("expires_in", 10**9, "expires_in: 1000000000 is not possible; it is 1 to 31536000 seconds."),
            ("expires_in", "soon", 'expires_in: "soon" is not a whole number.'),
        ],
    )
    async def test_what_is_not_possible_is_told(self, service, field, value, told):
        assert sentence(await service.http.post("/api/generate", json={**JOB, field: value}), 400) == told

    @pytest.mark.parametrize("other", [{"priority": "low"}, {"expires_in": 5}])
    async def test_the_new_fields_belong_to_an_idempotent_request(self, service, other):
        headers = {"Idempotency-Key": "first"}
        await service.http.post("/api/generate", json=JOB, headers=headers)
        answer = await service.http.post("/api/generate", json=JOB | other, headers=headers)
        assert "another request" in sentence(answer, 409)

    async def test_a_job_that_was_moved_to_another_class_is_still_the_same_request(self, service):
        headers = {"Idempotency-Key": "first"}
        first = (await service.http.post("/api/generate", json=JOB, headers=headers)).json()["job_id"]
        await service.http.post(f"/api/jobs/{first}/priority", json={"priority": "high"})
        assert (await service.http.post("/api/generate", json=JOB, headers=headers)).json()["job_id"] == first

    async def test_too_many_jobs_of_one_client_are_429_and_say_when_to_try_again(self, tmp_path):
        async with api_service(tmp_path, queue_limit_per_client=1) as service:
            job_id = await service.submit()
            for path, body in (("generate", JOB), ("jobs/batch", {"jobs": [JOB]})):
                response = await service.http.post(f"/api/{path}", json=body)
                assert "too many jobs waiting" in sentence(response, 429)
                assert int(response.headers["Retry-After"]) >= 1
            await service.finish(await service.start())
            assert (await service.job(job_id)).state is JobState.COMPLETED
            assert await service.submit()


class TestBatch:
    async def test_each_job_has_an_id_in_their_order(self, service):
        bodies = [JOB | {"settings": {"seed": seed}} for seed in range(3)]
        answer = (await service.http.post("/api/jobs/batch", json={"jobs": bodies})).json()
        assert list(answer) == ["job_ids", "message"]
        seeds = [(await service.job(job_id)).request.settings.seed for job_id in answer["job_ids"]]
        assert (seeds, answer["message"]) == ([0, 1, 2], "3 jobs are queued.")

    async def test_one_that_is_not_right_is_named_and_none_is_queued(self, service):
        bad = JOB | {"settings": {"num_inference_steps": 0}}
        response = await service.http.post("/api/jobs/batch", json={"jobs": [JOB, bad]})
        assert sentence(response, 400).startswith("jobs.1: settings.num_inference_steps: 0 is not possible")
        response = await service.http.post("/api/jobs/batch", json={"jobs": [JOB, {"model_id": "shapes"}]})
        assert sentence(response, 400) == "jobs.1.prompt: it is missing."
        assert await total(service) == 0

    @pytest.mark.parametrize("count", [0, 101])
    async def test_it_has_1_to_100_jobs(self, service, count):
        assert "jobs: list" in sentence(await service.http.post("/api/jobs/batch", json={"jobs": [JOB] * count}), 400)

    async def test_a_queue_without_room_for_all_takes_none(self, tmp_path):
        async with api_service(tmp_path, queue_limit=2) as service:
            response = await service.http.post("/api/jobs/batch", json={"jobs": [JOB] * 3})
            assert "The queue is full" in sentence(response, 503)
            assert await total(service) == 0

    async def test_the_key_of_a_batch_is_for_the_whole(self, service):
        async def send(jobs):
            return await service.http.post("/api/jobs/batch", json={"jobs": jobs}, headers={"Idempotency-Key": "k"})

        first = (await send([JOB, JOB])).json()["job_ids"]
        assert (await send([JOB, JOB])).json()["job_ids"] == first
        for other in ([JOB], [JOB, JOB, JOB], [JOB, JOB | {"prompt": "a ring"}]):
            assert "another request" in sentence(await send(other), 409)
        alone = await service.http.post("/api/generate", json=JOB, headers={"Idempotency-Key": "k"})
        assert "another request" in sentence(alone, 409)
        assert await total(service) == 2


class TestList:
    async def test_pages_of_jobs_newest_first(self, service):
        ids = [await service.submit() for _ in range(3)]
        first = (await service.http.get("/api/jobs?limit=2")).json()
        rest = (await service.http.get(f"/api/jobs?limit=2&cursor={first['next_cursor']}")).json()
        assert [job["id"] for job in first["jobs"] + rest["jobs"]] == ids[::-1]
        assert rest["next_cursor"] is None

    async def test_filters(self, service):
        done = await service.submit()
        await service.finish(await service.start())
        waits = await service.submit()

        async def listed(query: str) -> list[str]:
            return [job["id"] for job in (await service.http.get(f"/api/jobs?{query}")).json()["jobs"]]

        assert await listed("state=completed") == [done]
        assert await listed("client=10.1.2.3&model=shapes") == [waits, done]
        assert await listed("model=other") == []
        assert await listed("created_after=2020-01-01T00:00:00Z&created_before=2100-01-01T00:00:00Z") == [waits, done]

    @pytest.mark.parametrize(
        "query",
        [
            "state=waiting",
            "limit=0",
            "limit=101",
            "cursor=x",
            "created_after=yesterday",
            "created_after=2030-01-01",
            "created_after=0.5",
        ],
    )
    async def test_a_parameter_that_is_not_right_is_named(self, service, query):
        message = sentence(await service.http.get(f"/api/jobs?{query}"), 400)
        assert message.startswith(f"{query.split('=')[0]}: ")


class TestRetry:
    async def test_makes_a_new_job_with_the_same_seed(self, service):
        old = await fail_one(service)
        answer = (await service.http.post(f"/api/jobs/{old}/retry")).json()
        assert list(answer) == ["job_id", "status", "num_images", "message"]
        new = (await service.http.get(f"/api/status/{answer['job_id']}")).json()
        before = (await service.http.get(f"/api/status/{old}")).json()
        assert (new["retry_of"], new["status"], new["settings"]) == (old, "pending", before["settings"])
        assert before["status"] == "failed"

    async def test_a_job_that_waits_is_409_and_an_unknown_one_404(self, service):
        job_id = await service.submit()
        assert "only a failed or cancelled" in sentence(await service.http.post(f"/api/jobs/{job_id}/retry"), 409)
        assert sentence(await service.http.post(f"/api/jobs/{UNKNOWN}/retry"), 404)


class TestPriority:
    async def test_moves_a_job_up(self, service):
        await service.submit()
        last = await service.submit()
        answer = (await service.http.post(f"/api/jobs/{last}/priority", json={"priority": "high"})).json()
        assert (answer["priority"], answer["queue_position"]) == ("high", 1)

    async def test_only_of_a_job_that_waits(self, service):
        job_id = await service.submit()
        await service.start()
        response = await service.http.post(f"/api/jobs/{job_id}/priority", json={"priority": "high"})
        assert "only a job that waits" in sentence(response, 409)


class TestPause:
    async def test_no_job_is_started_until_it_is_resumed(self, service):
        await service.submit()
        assert (await service.http.post("/api/queue/shapes/pause")).json()[
            "message"
        ] == "The queue of shapes is paused."
        assert (await service.http.get("/api/queue?detailed=true")).json()["paused"] == ["shapes"]
        assert await service.tracker.claim({"shapes": 1}, "replica", "1") == []
        assert (await service.http.post("/api/queue/shapes/resume")).status_code == 200
        assert (await service.http.get("/api/queue")).json()["paused"] == []
        assert await service.start()

    async def test_of_a_model_that_there_is_not(self, service):
        message = sentence(await service.http.post("/api/queue/shape/pause"), 404)
        assert message == 'There is no model "shape"; available: shapes.'
        assert (await service.http.post("/api/queue/gone/resume")).status_code == 200


class TestResetQueue:
    async def test_counts_the_stalled_jobs(self, service, monkeypatch):
        await service.submit()
        await service.start()
        answer = (await service.http.post("/api/reset_queue")).json()
        assert answer == {"status": "success", "reset_count": 0, "message": "0 stalled jobs were reset."}
        now = JobStore._now

        async def later(store, connection):
            return await now(store, connection) + timedelta(days=1)

        monkeypatch.setattr(JobStore, "_now", later)
        answer = (await service.http.post("/api/reset_queue")).json()
        assert (answer["reset_count"], answer["message"]) == (1, "1 stalled job was reset.")
        assert (await service.http.get("/api/queue")).json()["pending"] == 1


class TestClear:
    async def test_completed_jobs_go_with_their_images(self, service):
        image, _ = await service.make_image()
        waits = await service.submit()
        answer = (await service.http.delete("/api/jobs?state=completed")).json()
        assert answer == {
            "status": "success", "cleared": 1, "remaining": 0, "message": "1 completed job is cleared.",
        }  # fmt: skip
        assert not await service.storage.exists(image.key)
        assert sentence(await service.http.get(f"/api/image/{image.id}"), 404)
        assert (await service.job(waits)).state is JobState.PENDING

    async def test_pending_jobs_are_cancelled(self, service):
        ids = [await service.submit() for _ in range(2)]
        assert (await service.http.delete("/api/jobs?state=pending")).json()["cleared"] == 2
        assert {(await service.job(job_id)).state for job_id in ids} == {JobState.CANCELLED}

    @pytest.mark.parametrize("query", ["", "?state=processing", "?state=all"])
    async def test_of_other_states_is_refused(self, service, query):
        assert sentence(await service.http.delete(f"/api/jobs{query}"), 400).startswith("state: ")


class TestAudit:
    async def test_names_the_caller_and_what_was_done(self, service):
        job_id = await service.submit()
        await service.http.delete(f"/api/jobs/{job_id}")
        await service.http.post(f"/api/jobs/{job_id}/retry")
        await service.http.post("/api/queue/shapes/pause")
        answer = (await service.http.get("/api/audit?limit=2")).json()
        assert [(entry["who"], entry["action"]) for entry in answer["entries"]] == [
            ("10.1.2.3", "pause"),
            ("10.1.2.3", "retry"),
        ]
        rest = (await service.http.get(f"/api/audit?cursor={answer['next_cursor']}")).json()
        assert [entry["job_id"] for entry in rest["entries"]] == [job_id]
        assert rest["next_cursor"] is None


async def test_models_of_a_batch_have_queues_of_their_own(tmp_path):
    async with api_service(tmp_path, WIDE_CATALOG) as service:
        bodies = [{"model_id": model_id, "prompt": PROMPT} for model_id in ("large", "fast")]
        answer = (await service.http.post("/api/jobs/batch", json={"jobs": bodies})).json()
        positions = [await service.tracker.jobs.position(job_id) for job_id in answer["job_ids"]]
        assert positions == [1, 1]
