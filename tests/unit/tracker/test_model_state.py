"""What is known of a model follows from what its copies announce, and from their silence."""

import asyncio

import pytest

from deployments.catalog.entry import ModelEntry
from deployments.jobs.records.exceptions import StoreUnavailableError
from deployments.model.replica import announce_forever
from deployments.tracker.model_state import ModelCondition, ModelConditions, ModelState
from tests.support.job_samples import Clock

COLD = ModelCondition(ModelState.COLD)
READY = ModelCondition(ModelState.READY, replicas=1)
FAILED = ModelCondition(ModelState.UNAVAILABLE, "There is no such folder.")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def conditions(clock) -> ModelConditions:
    return ModelConditions(clock)


def condition(conditions: ModelConditions, fingerprint: str = "one") -> ModelCondition:
    return conditions.of({"model": fingerprint})["model"]


def test_a_model_of_which_nobody_spoke_is_cold(conditions):
    assert conditions.of({"a": "one", "b": "two"}) == {"a": COLD, "b": COLD}


def test_a_loaded_copy_makes_it_ready_for_as_long_as_it_speaks(conditions, clock):
    for _ in range(5):
        conditions.note("model", "one", "", "first")
        clock.advance(seconds=20)
        assert condition(conditions) == READY
    clock.advance(seconds=30)
    assert condition(conditions) == COLD


def test_a_failure_is_remembered_until_a_copy_loads(conditions, clock):
    conditions.note("model", "one", FAILED.reason, "second")
    clock.advance(seconds=100_000)
    assert condition(conditions) == FAILED
    conditions.note("model", "one", "", "first")
    assert condition(conditions) == READY
    clock.advance(seconds=100_000)
    assert condition(conditions) == COLD


def test_one_loaded_copy_is_enough(conditions):
    conditions.note("model", "one", "", "first")
    conditions.note("model", "one", FAILED.reason, "second")
    assert condition(conditions) == READY


def test_loaded_copies_are_counted_while_they_speak(conditions, clock):
    conditions.note("model", "one", "", "first")
    clock.advance(seconds=30)
    for replica in ("second", "third", "second"):
        conditions.note("model", "one", "", replica)
    assert condition(conditions).replicas == 3
    clock.advance(seconds=30)
    assert condition(conditions).replicas == 2


def test_another_entry_is_another_model(conditions):
    conditions.note("model", "one", FAILED.reason, "second")
    assert condition(conditions, "two") == COLD


def test_fingerprints_tell_entries_apart():
    first = ModelEntry(repo="owner/name")
    assert first.fingerprint == ModelEntry(repo="owner/name").fingerprint
    assert first.fingerprint != ModelEntry(repo="owner/name", dtype="float16").fingerprint


async def test_a_copy_goes_on_announcing_when_the_tracker_was_away():
    heard: list[tuple[str, ...]] = []
    twice = asyncio.Event()

    class Tracker:
        async def announce_model(self, *told: str) -> None:
            heard.append(told)
            if len(heard) == 1:
                raise StoreUnavailableError
            twice.set()

    announcing = asyncio.create_task(announce_forever(Tracker(), "model", "one", "It failed.", every_seconds=0))
    async with asyncio.timeout(60):
        await twice.wait()
    announcing.cancel()
    assert heard[0] == heard[1]
    assert heard[0][:3] == ("model", "one", "It failed.")
