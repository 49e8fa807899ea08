"""A pool brings models to their jobs, away from the event loop and one at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping

import pytest

from deployments.pools.pool import ModelPool, Moved, NoRoomError
from deployments.pools.residency import MoveKind, Residency

SIZE = 1 << 30


class FakeModel:
    """Notes what is done to it.

    Attributes:
        gate: A move waits for it.
    """

    def __init__(self, size: int = SIZE, *, breaks_at: str = "") -> None:
        self.size = size
        self.done: list[str] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.reason = ""
        self._breaks_at = breaks_at

    def load(self) -> int:
        self._note("load")
        return self.size

    def bring_in(self) -> None:
        self._note("bring_in")

    def park(self) -> None:
        self._note("park")

    def drop(self) -> None:
        self._note("drop")

    def give_up(self, reason: str) -> None:
        self._note("give_up")
        self.reason = reason

    def _note(self, what: str) -> None:
        assert self.gate.wait(60)
        self.threads.add(threading.get_ident())
        self.done.append(what)
        if what == self._breaks_at:
            raise RuntimeError("It is broken.")


def pool_of(models: Mapping[str, FakeModel], memory: int = SIZE) -> ModelPool:
    return ModelPool("shared", models, Residency(models, memory, None, 0.0, time.monotonic))


async def test_a_job_gets_its_model_and_the_event_loop_stays_free() -> None:
    model = FakeModel()
    pool = pool_of({"a": model})
    async with asyncio.timeout(60):
        await pool.enter("a")

    assert model.done == ["load", "bring_in"]
    assert threading.get_ident() not in model.threads


async def test_no_model_leaves_while_a_job_has_it() -> None:
    models = {"a": FakeModel(), "b": FakeModel()}
    pool = pool_of(models)
    async with asyncio.timeout(60):
        await pool.enter("a")
        await pool.enter("a")
        other = asyncio.create_task(pool.enter("b"))
        pool.leave("a")
        await asyncio.sleep(0)
        assert models["a"].done == ["load", "bring_in"]
        assert not other.done()
        pool.leave("a")
        await other

    assert models["a"].done == ["load", "bring_in", "park"]


async def test_a_job_that_gives_up_while_it_waits_leaves_no_trace() -> None:
    models = {"a": FakeModel(), "b": FakeModel()}
    pool = pool_of(models)
    async with asyncio.timeout(60):
        await pool.enter("a")
        other = asyncio.create_task(pool.enter("b"))
        await asyncio.sleep(0)
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other
        pool.leave("a")
        await pool.enter("a")

    assert models["b"].done == []


async def test_a_job_that_gives_up_while_its_model_is_moved_does_not_hold_it() -> None:
    models = {"a": FakeModel(), "b": FakeModel()}
    models["a"].gate.clear()
    pool = pool_of(models)
    async with asyncio.timeout(60):
        entering = asyncio.create_task(pool.enter("a"))
        await asyncio.sleep(0)
        entering.cancel()
        models["a"].gate.set()
        with pytest.raises(asyncio.CancelledError):
            await entering
        await pool.enter("b")


@pytest.mark.parametrize("step", ["load", "bring_in"])
async def test_a_model_that_fails_says_why_and_the_others_work(step: str) -> None:
    told: list[Moved] = []
    models = {"broken": FakeModel(breaks_at=step), "b": FakeModel()}
    pool = ModelPool("shared", models, Residency(models, SIZE, None, 0.0, time.monotonic), told.append)
    async with asyncio.timeout(60):
        await pool.enter("broken")
        await pool.enter("b")
        await pool.enter("broken")

    assert models["broken"].reason == "It is broken."
    assert models["broken"].done[-1] == "give_up"
    failed = [(moved.kind, moved.model_id, moved.failure) for moved in told if moved.failure]
    assert failed == [(MoveKind(step), "broken", "It is broken.")]


async def test_a_model_whose_memory_cannot_be_freed_holds_nobody_up() -> None:
    class Faulty(FakeModel):
        def give_up(self, reason: str) -> None:
            super().give_up(reason)
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    models = {"broken": Faulty(breaks_at="bring_in"), "b": FakeModel()}
    pool = pool_of(models)
    async with asyncio.timeout(60):
        await pool.enter("broken")
        await pool.enter("b")

    assert models["broken"].reason == "It is broken."


async def test_a_model_larger_than_the_memory_is_refused_with_what_would_be_right() -> None:
    model = FakeModel(size=2 * SIZE)
    pool = pool_of({"a": model})
    async with asyncio.timeout(60):
        await pool.enter("a")

    assert model.done == ["load", "give_up"]
    assert model.reason == (
        "pools.shared.memory: the weights take 2.0GiB, and 1.0GiB is all that there is for them; give the pool more, "
        "or the model fewer bits (dtype, loading.quantization)."
    )


class SmallDevice:
    """Holds fewer models than the pool thinks."""

    def __init__(self, most: int) -> None:
        self.there: set[FakeModel] = set()
        self._most = most

    def take(self, model: FakeModel) -> None:
        if len(self.there) == self._most:
            raise NoRoomError
        self.there.add(model)


class ModelOfSmallDevice(FakeModel):
    def __init__(self, device: SmallDevice) -> None:
        super().__init__()
        self._device = device

    def bring_in(self) -> None:
        super().bring_in()
        self._device.take(self)

    def park(self) -> None:
        super().park()
        self._device.there.remove(self)


async def test_what_does_not_fit_beside_the_others_comes_in_for_one_of_them() -> None:
    device = SmallDevice(most=1)
    models = {name: ModelOfSmallDevice(device) for name in "ab"}
    pool = pool_of(models, memory=2 * SIZE)
    async with asyncio.timeout(60):
        for name in "abab":
            await pool.enter(name)
            pool.leave(name)

    assert models["b"].reason == ""
    assert [models["b"].done.count(step) for step in ("bring_in", "park")] == [3, 1]  # only once was it tried in vain


async def test_what_does_not_fit_alone_is_unavailable() -> None:
    model = ModelOfSmallDevice(SmallDevice(most=0))
    pool = pool_of({"a": model})
    async with asyncio.timeout(60):
        await pool.enter("a")

    assert model.reason == "There is not enough GPU memory for the model's weights."
