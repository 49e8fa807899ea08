"""Following jobs over HTTP: streams of events, their ids, and the long poll."""

from __future__ import annotations

import asyncio
import base64
import io

import PIL.Image
import pytest

from deployments.jobs.records.jobs import JobPhase, ProgressReport
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.remote import TrackerUnavailableError
from serve.application import build_api
from serve.services.job_feed import Rhythm
from serve.services.services import Services
from tests.support.api_service import AT_ONCE, api_service, sentence
from tests.support.event_stream import open_stream
from tests.support.job_trackers import raising

pytestmark = pytest.mark.timeout(60)

UNKNOWN = "00000000-0000-4000-8000-000000000000"
NEVER = 1000.0  # seconds


@pytest.fixture
async def service(tmp_path):
    # Whatever is told in time is told by the subscription: nothing is looked at again.
    async with api_service(tmp_path, rhythm=Rhythm(rest=0.0, refresh=NEVER)) as service:
        yield service


def events_of(job_id: str) -> str:
    return f"/api/jobs/{job_id}/events"


def webp() -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), "red").save(file, "WEBP")
    return file.getvalue()


class TestJob:
    async def test_tells_of_every_state_and_ends_with_the_whole_status(self, service):
        job_id = await service.submit()
        async with open_stream(service.app, events_of(job_id)) as stream:
            assert stream.status == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.headers["cache-control"] == "no-store"
            assert (await stream.event()).data["status"] == "pending"
            waiting = await stream.event()
            assert (waiting.name, waiting.data["queue_position"]) == ("progress", 1)

            claim = await service.start()
            running = await stream.event("state")
            assert running.data == (await service.http.get(f"/api/status/{job_id}")).json()
            await service.report(claim, JobPhase.GENERATING, 3)
            progress = await stream.event("progress")
            while progress.data["step"] == 0:
                progress = await stream.event("progress")
            assert progress.data["phase"] == "generating"
            assert (progress.data["id"], progress.data["step"], progress.data["total_steps"]) == (job_id, 3, 20)

            await service.finish(claim)
            end = await stream.event()
            assert end.name == "end"
            assert end.data == (await service.http.get(f"/api/status/{job_id}")).json()
            assert end.data["images"]
            assert await stream.rest() == []

    async def test_that_has_ended_gives_its_end_at_once(self, service):
        job_id = await service.submit()
        await service.tracker.jobs.cancel(job_id)

        async with open_stream(service.app, events_of(job_id)) as stream:
            assert await stream.rest() == ["end"]

    async def test_that_is_not_there_is_404_before_the_stream_begins(self, service):
        assert "no job" in sentence(await service.http.get(events_of(UNKNOWN)), 404)

    async def test_while_the_tracker_is_down_is_503(self, tmp_path):
        async with api_service(tmp_path, tracker=raising(TrackerUnavailableError())) as service:
            sentence(await service.http.get(events_of(UNKNOWN)), 503)
            sentence(await service.http.get(f"/api/status/{UNKNOWN}?wait=5"), 503)

    async def test_shows_what_is_becoming_of_it_unless_that_is_not_wanted(self, service):
        job_id = await service.submit()
        claim = await service.start()
        report = ProgressReport(job_id=job_id, fence=claim.fence, phase=JobPhase.GENERATING, step=1, preview=webp())
        await service.tracker.report([report])

        async with (
            open_stream(service.app, events_of(job_id)) as stream,
            open_stream(service.app, events_of(job_id) + "?previews=false") as plain,
        ):
            preview = await stream.event("preview")
            kind, _, picture = preview.data["image"].partition(";base64,")
            assert (kind, base64.b64decode(picture)) == ("data:image/webp", webp())
            await service.finish(claim)
            assert await plain.rest() == ["state", "progress", "end"]

    async def test_a_slow_reader_is_told_the_newest_progress_only(self, service):
        job_id = await service.submit()
        claim = await service.start()
        async with (
            open_stream(service.app, events_of(job_id)) as slow,
            open_stream(service.app, events_of(job_id)) as quick,
        ):
            for step in range(1, 20):
                await service.report(claim, JobPhase.GENERATING, step)
                while (await quick.event("progress")).data["step"] != step:
                    pass
            await service.finish(claim)
            await quick.event("end")

            names = await slow.rest()
            assert names[-1] == "end"
            assert names.count("progress") < 5

    async def test_heartbeats_keep_a_silent_stream(self, tmp_path):
        async with api_service(tmp_path, rhythm=Rhythm(rest=0.0, refresh=NEVER, heartbeat=0.001)) as service:
            job_id = await service.submit()
            async with open_stream(service.app, events_of(job_id)) as stream:
                while stream.pings < 3:
                    await stream.raw()

    async def test_another_trackers_changes_are_seen_at_the_next_refresh(self, tmp_path):
        async with api_service(tmp_path, rhythm=Rhythm(rest=0.0, refresh=0.01)) as service:
            job_id = await service.submit()
            other = JobTracker(service.tracker._settings)
            async with open_stream(service.app, events_of(job_id)) as stream:
                await stream.event("state")
                await other.jobs.cancel(job_id)
                assert (await stream.event("end")).data["status"] == "cancelled"
            await other.close()


class TestResume:
    async def test_goes_on_without_a_repetition(self, service):
        job_id = await service.submit()
        claim = await service.start()
        await service.report(claim, JobPhase.GENERATING, 3)
        async with open_stream(service.app, events_of(job_id)) as first:
            await first.event("progress")

        async with open_stream(service.app, events_of(job_id), {"Last-Event-ID": first.last_id}) as second:
            await service.report(claim, JobPhase.GENERATING, 4)
            assert (await second.event()).data["step"] == 4

    async def test_after_a_state_the_progress_is_still_told(self, service):
        job_id = await service.submit()
        await service.start()
        async with open_stream(service.app, events_of(job_id)) as first:
            await first.event("state")

        async with open_stream(service.app, events_of(job_id), {"Last-Event-ID": first.last_id}) as second:
            assert (await second.event()).name == "progress"

    async def test_an_end_that_came_meanwhile_is_told(self, service):
        job_id = await service.submit()
        async with open_stream(service.app, events_of(job_id)) as first:
            await first.event("progress")
        await service.finish(await service.start())

        async with open_stream(service.app, events_of(job_id), {"Last-Event-ID": first.last_id}) as second:
            assert await second.rest() == ["end"]

    async def test_whoever_has_the_end_is_told_to_stay_away(self, service):
        job_id = await service.submit()
        await service.tracker.jobs.cancel(job_id)
        async with open_stream(service.app, events_of(job_id)) as first:
            await first.rest()

        answer = await service.http.get(events_of(job_id), headers={"Last-Event-ID": first.last_id})
        assert (answer.status_code, answer.content) == (204, b"")

    async def test_goes_on_at_another_process_and_another_tracker(self, service):
        job_id = await service.submit()
        claim = await service.start()
        await service.report(claim, JobPhase.GENERATING, 3)
        async with open_stream(service.app, events_of(job_id)) as first:
            await first.event("progress")

        tracker = JobTracker(service.tracker._settings)
        known = service.app.state.services
        other = Services(known.settings, known.catalog, tracker, known.storage, AT_ONCE)
        headers = {"Last-Event-ID": first.last_id}
        async with open_stream(build_api(other), events_of(job_id), headers) as second:
            await tracker.report([ProgressReport(job_id=job_id, fence=claim.fence, phase=JobPhase.GENERATING, step=9)])
            assert (await second.event()).data["step"] == 9
            await tracker.complete(job_id, claim.fence, [])
            assert await second.rest() == ["end"]
        await other.feed.close()
        await tracker.close()

    async def test_anything_else_as_an_id_begins_anew(self, service):
        job_id = await service.submit()
        async with open_stream(service.app, events_of(job_id), {"Last-Event-ID": "..nonsense..  "}) as stream:
            assert (await stream.event()).name == "state"


class TestRestart:
    async def test_a_tracker_that_was_replaced_is_followed_on(self, tmp_path):
        """The handle stays the same, and another tracker with another life answers."""
        async with api_service(tmp_path) as inner:

            class Handle:
                def __init__(self) -> None:
                    self.tracker = inner.tracker

                def __getattr__(self, name):
                    return getattr(self.tracker, name)

            handle = Handle()
            known = inner.app.state.services
            services = Services(
                known.settings, known.catalog, handle, known.storage, Rhythm(rest=0.0, refresh=NEVER, wait=0.01)
            )
            job_id = await inner.submit()
            async with open_stream(build_api(services), events_of(job_id)) as stream:
                await stream.event("progress")
                handle.tracker = JobTracker(inner.tracker._settings)
                # Through nobody's subscription: only the gap in the numbers tells of it.
                await inner.tracker.jobs.cancel(job_id)
                assert await stream.rest() == ["end"]
            await services.feed.close()
            await handle.tracker.close()


class TestClient:
    async def test_tells_of_all_jobs_of_the_caller_and_of_no_others(self, service):
        waits = await service.submit()
        async with (
            open_stream(service.app, "/api/events") as stream,
            open_stream(service.app, "/api/events", client="10.9.9.9") as stranger,
        ):
            assert (await stream.event("state")).data["id"] == waits
            later = await service.submit()
            assert (await stream.event("state")).data["id"] == later
            await service.finish(await service.start())
            end = await stream.event("end")
            assert (end.data["id"], end.data["status"]) == (waits, "completed")
            await service.tracker.jobs.cancel(later)
            assert (await stream.event("end")).data["id"] == later

            assert (await stranger.raw()).name == ""  # the id to come back with, and nothing else
            assert not stranger._messages.qsize()

    async def test_what_ended_meanwhile_is_told_to_who_comes_back(self, service):
        job_id = await service.submit()
        async with open_stream(service.app, "/api/events") as first:
            await first.event("state")
        await service.tracker.jobs.cancel(job_id)

        async with open_stream(service.app, "/api/events", {"Last-Event-ID": first.last_id}) as second:
            end = await second.event()
            assert (end.name, end.data["id"]) == ("end", job_id)

    async def test_what_ended_long_ago_is_not_told(self, service):
        job_id = await service.submit()
        await service.tracker.jobs.cancel(job_id)
        open_job = await service.submit()

        async with open_stream(service.app, "/api/events", {"Last-Event-ID": "99999999999999"}) as stream:
            assert (await stream.event()).data["id"] == open_job

    @pytest.mark.parametrize("last_id", ["-5", "9" * 100, "pending.0.0", ""])
    async def test_any_id_is_taken(self, service, last_id):
        await service.submit()
        async with open_stream(service.app, "/api/events", {"Last-Event-ID": last_id}) as stream:
            assert (await stream.event()).name == "state"


class TestLongPoll:
    async def poll(self, service, job_id: str, tag: str = "", wait: float = 60):
        headers = {"If-None-Match": tag} if tag else {}
        return await service.http.get(f"/api/status/{job_id}?wait={wait}", headers=headers)

    async def waiting(self, service, job_id: str, tag: str = "") -> asyncio.Task:
        poll = asyncio.create_task(self.poll(service, job_id, tag))
        watching = service.app.state.services.feed._of_jobs
        while not any(watcher.has_seen_any for watcher in watching):  # noqa: ASYNC110
            await asyncio.sleep(0)
        return poll

    @pytest.mark.parametrize("knows", [True, False])
    async def test_returns_when_the_job_changes(self, service, knows):
        job_id = await service.submit()
        tag = (await service.http.get(f"/api/status/{job_id}")).headers["ETag"]
        poll = await self.waiting(service, job_id, tag if knows else "")
        await service.start()
        answer = await poll
        assert answer.json()["status"] == "processing"
        assert answer.headers["ETag"] != tag

    async def test_returns_at_once_what_the_caller_does_not_know(self, service):
        job_id = await service.submit()
        answer = await self.poll(service, job_id, 'W/"something/else"')
        assert answer.json()["status"] == "pending"

    async def test_returns_the_end_at_once(self, service):
        job_id = await service.submit()
        await service.tracker.jobs.cancel(job_id)
        answer = await self.poll(service, job_id)
        assert answer.json()["status"] == "cancelled"

        assert (await self.poll(service, job_id, answer.headers["ETag"])).status_code == 304

    async def test_without_news_is_304_to_who_knows_and_the_job_to_others(self, service):
        job_id = await service.submit()
        answer = await self.poll(service, job_id, wait=0.01)
        assert answer.json()["status"] == "pending"

        again = await self.poll(service, job_id, answer.headers["ETag"], wait=0.01)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == answer.headers["ETag"]

    @pytest.mark.parametrize("wait", ["-1", "61", "soon"])
    async def test_other_waits_are_refused(self, service, wait):
        job_id = await service.submit()
        assert sentence(await service.http.get(f"/api/status/{job_id}?wait={wait}"), 400).startswith("wait: ")

    async def test_an_unknown_job_is_404(self, service):
        sentence(await self.poll(service, UNKNOWN), 404)
