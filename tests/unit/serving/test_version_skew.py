"""What runs at once while the service is upgraded or deployed anew: versions at one database, two trackers in turn."""

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import create_model
from ray.exceptions import RayActorError

from deployments.jobs.database import rows
from deployments.jobs.records.jobs import Record
from deployments.parameters import GenerationSettings, LoraChoice
from deployments.tracker.remote import TrackerUnavailableError, UnknownTrackerError, remote_tracker
from tests.support.job_samples import LEASE, LIMIT, request, submit

NEW_FIELD = "loras"


@pytest.fixture
def earlier_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read rows as a version of the package that does not know the newest field of the settings yet."""
    fields = {name: (Any, field) for name, field in GenerationSettings.model_fields.items() if name != NEW_FIELD}
    earlier = create_model("EarlierSettings", __base__=Record, **fields)

    def read(**stored: Any) -> GenerationSettings:
        earlier.model_validate(stored)
        return GenerationSettings(**stored)

    monkeypatch.setattr(rows, "GenerationSettings", read)


async def test_an_earlier_version_takes_jobs_that_use_nothing_new(store, earlier_version):
    await submit(store, "job-1", request(), LIMIT)
    (claim,) = await store.claims.claim({"tiny": 1}, "earlier", "claim", LEASE)

    assert claim.request == request()


async def test_an_earlier_version_does_not_draw_what_it_does_not_understand(store, earlier_version):
    asked = request()
    settings = asked.settings.model_copy(update={NEW_FIELD: (LoraChoice(name="ink", scale=1.0),)})
    await submit(store, "job-1", asked.model_copy(update={"settings": settings}), LIMIT)

    with pytest.raises(ValueError, match=NEW_FIELD):
        await store.claims.claim({"tiny": 1}, "earlier", "claim", LEASE)
    assert (await store.counts.by_state()).pending == 1  # for the new version


def actor(outcome: Any) -> Any:
    """As the handle of an actor, whose method answers this or raises it."""

    async def remote(*call: Any) -> Any:
        assert call == ("administration", "paused_models", (), {})
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return SimpleNamespace(call=SimpleNamespace(remote=remote))


class TestATrackerThatWasReplaced:
    async def test_is_left_for_its_successor(self):
        tracker = remote_tracker(actor(RayActorError()), lambda: actor(["shapes"]))

        assert await tracker.administration.paused_models() == ["shapes"]

    async def test_is_looked_for_once(self):
        looks = []

        def find() -> Any:
            looks.append(1)
            return actor([])

        tracker = remote_tracker(actor(RayActorError()), find)
        await tracker.administration.paused_models()
        await tracker.administration.paused_models()

        assert len(looks) == 1

    async def test_is_said_to_be_away_until_there_is_a_successor(self):
        def find() -> Any:
            raise UnknownTrackerError

        with pytest.raises(TrackerUnavailableError):
            await remote_tracker(actor(RayActorError()), find).administration.paused_models()
