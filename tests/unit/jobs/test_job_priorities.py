"""Classes of priority: whose turn it is, and how a job comes from one into another."""

from __future__ import annotations

import pytest

from deployments.jobs.records.exceptions import JobStateError, UnknownJobError
from deployments.jobs.records.jobs import PriorityClass
from deployments.jobs.transaction.lanes import BLOCK_PLACES
from tests.support.job_samples import LIMIT, claimed, complete, image, processing, request, submit

HIGH, NORMAL, LOW = PriorityClass


async def submitted(store, *job_ids: str, priority: PriorityClass = NORMAL, **fields) -> None:
    for job_id in job_ids:
        await submit(store, job_id, request(**fields).model_copy(update={"priority": priority}), LIMIT)


async def order(store, count: int) -> list[str]:
    return [(await claimed(store, f"claim {number}"))[0].job_id for number in range(count)]


async def positions(store, *job_ids: str) -> list[int | None]:
    return [await store.jobs.position(job_id) for job_id in job_ids]


async def test_the_class_comes_first_then_the_client_then_the_age(store):
    await submitted(store, "l1", "l2", priority=LOW, client="ann")
    await submitted(store, "n1", "n2", client="ann")
    await submitted(store, "n3", client="bob")
    await submitted(store, "h1", "h2", priority=HIGH, client="ann")
    await submitted(store, "h3", priority=HIGH, client="bob")
    expected = ["h1", "h3", "h2", "n1", "n3", "n2", "l1", "l2"]
    assert await positions(store, *expected) == list(range(1, 9))
    assert await order(store, 8) == expected


async def test_many_at_once_are_taken_in_the_same_order(store):
    await submitted(store, "l1", priority=LOW)
    await submitted(store, "n1", "n2", client="ann")
    await submitted(store, "n3", client="bob")
    await submitted(store, "h1", priority=HIGH, client="cat")
    assert [claim.job_id for claim in await claimed(store, "1", 4)] == ["h1", "n1", "n3", "n2"]


async def test_a_claim_tells_the_class_of_now(store):
    await submitted(store, "a", priority=LOW)
    await store.jobs.reprioritize("a", HIGH, "eve")
    (claim,) = await claimed(store, "1")
    assert (claim.priority, claim.request.priority) == (HIGH, LOW)
    assert [kind.urgency for kind in PriorityClass] == [1, 0, -1]


async def test_a_job_that_is_moved_up_goes_before_lower_ones_and_behind_its_clients_own(store):
    await submitted(store, "n1", "n2", "n3", client="ann")
    await submitted(store, "h1", priority=HIGH, client="ann")
    job = await store.jobs.reprioritize("n3", HIGH, "eve")
    assert job.priority is HIGH
    assert await positions(store, "h1", "n3", "n1", "n2") == [1, 2, 3, 4]
    assert await order(store, 4) == ["h1", "n3", "n1", "n2"]


async def test_a_job_that_was_put_back_keeps_its_class(store):
    await submitted(store, "n1")
    await submitted(store, "h1", priority=HIGH)
    await claimed(store, "1")
    await store.attempts.fail("h1", 1, "gone.", 3)
    assert await order(store, 2) == ["h1", "n1"]


async def test_the_same_class_again_changes_nothing(store):
    await submitted(store, "a", "b")
    before = await store.jobs.get("a")
    assert await store.jobs.reprioritize("a", NORMAL, "eve") == before
    assert await positions(store, "a", "b") == [1, 2]
    assert (await store.audit.page()).entries == []


async def test_only_a_job_that_waits_can_be_moved(store):
    fence = await processing(store)
    with pytest.raises(JobStateError, match="The job is processing; only a job that waits"):
        await store.jobs.reprioritize("a", HIGH, "eve")
    await complete(store, "a", fence, [image("a")])
    with pytest.raises(JobStateError):
        await store.jobs.reprioritize("a", HIGH, "eve")
    with pytest.raises(UnknownJobError):
        await store.jobs.reprioritize("nobody", HIGH, "eve")


async def test_positions_hold_in_long_lanes_with_gaps(store):
    count = 2 * BLOCK_PLACES + 20
    wanted = {f"{number}": request() for number in range(count)}
    await store.queue.submit(wanted, LIMIT.__class__(total=count))
    for number in (3, BLOCK_PLACES + 1):
        await store.jobs.cancel(str(number))
    await store.jobs.reprioritize("7", LOW, "eve")
    await claimed(store, "1", 2)
    await store.attempts.fail("1", 1, "gone.", 3)
    await store.administration.remove(["3"], "eve")
    last = str(count - 1)
    assert await positions(store, "1", "2", "4", str(BLOCK_PLACES + 2), last, "7") == [
        1, 2, 3, BLOCK_PLACES - 1, count - 4, count - 3,
    ]  # fmt: skip
