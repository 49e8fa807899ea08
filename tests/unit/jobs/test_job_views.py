"""Jobs as those see them who follow them, many in one call."""

from __future__ import annotations

from datetime import timedelta

from tests.support.job_samples import claimed, complete, image, report, reported, submitted

LEASE = timedelta(seconds=60)


class TestManyJobs:
    async def test_are_told_with_their_images_and_positions(self, store):
        await submitted(store, "done", "runs", "waits", "waits longer")
        (done,), (runs,) = await claimed(store, "1"), await claimed(store, "2")
        await reported(store, [report("runs", runs.fence, step=7)], LEASE)
        await complete(store, "done", done.fence, [image("done", 1), image("done", 0)])

        sight = await store.views.of(["waits longer", "done", "nobody", "runs", "waits"])
        assert set(sight.views) == {"done", "runs", "waits", "waits longer"}
        assert [each.id for each in sight.views["done"].images] == ["done-0", "done-1"]
        positions = {job_id: view.queue_position for job_id, view in sight.views.items()}
        assert positions == {"done": None, "runs": None, "waits": 1, "waits longer": 2}
        assert sight.steps_left == {"tiny": [20 - 7]}

    async def test_none_is_none(self, store):
        assert (await store.views.of([])).views == {}

    async def test_of_very_many_only_the_first_are_told_their_positions(self, store, monkeypatch):
        monkeypatch.setattr("deployments.jobs.queue.views.MOST_POSITIONS", 1)
        await submitted(store, "a", "b")
        views = (await store.views.of(["b", "a"])).views
        assert (views["b"].queue_position, views["a"].queue_position) == (2, None)


class TestJobsOfClients:
    async def test_are_the_open_ones_and_those_that_ended_since(self, store, clock):
        await submitted(store, "early", "late", "open", client="ann")
        await submitted(store, "other", client="bob")
        await store.jobs.cancel("early")
        clock.advance(minutes=10)
        await store.jobs.cancel("late")

        since = clock.now - timedelta(minutes=1)
        assert await store.jobs.of_clients({"ann": since}) == ["late", "open"]
        assert await store.jobs.of_clients({"bob": since, "nobody": since, "ann": clock.now}) == [
            "other",
            "late",
            "open",
        ]
