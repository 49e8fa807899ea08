"""Turns: whoever asks for much gets its share, and nobody else waits for it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from deployments.turns import TooManyWaitingError, Turns


class Client:
    """Asks for places; they are held until they are left."""

    def __init__(self, turns: Turns, name: str, log: list[str]) -> None:
        self.turns, self.name, self.log = turns, name, log
        self.doors: list[asyncio.Event] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, number: int = 1) -> None:
        for _ in range(number):
            self.doors.append(asyncio.Event())
            self.tasks.append(asyncio.create_task(self._hold(self.doors[-1])))
        await settled()

    async def leave(self, index: int) -> None:
        self.doors[index].set()
        await settled()

    async def _hold(self, door: asyncio.Event) -> None:
        async with self.turns.place(self.name):
            self.log.append(self.name)
            await door.wait()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
async def clients(log):
    def made(places, most_each, *names, most_waiting_each=100):
        turns = Turns(places, most_each, most_waiting_each)
        found.extend(Client(turns, name, log) for name in names)
        return found

    found: list[Client] = []
    yield made
    for task in [task for client in found for task in client.tasks]:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_one_client_has_no_more_than_its_share(clients, log):
    greedy, honest = clients(2, 1, "greedy", "honest")

    await greedy.ask(50)
    assert log == ["greedy"]
    await honest.ask()
    assert log == ["greedy", "honest"]


async def test_clients_take_turns_however_many_requests_each_has(clients, log):
    first, second, third = clients(1, 1, "first", "second", "third")
    await first.ask(4)
    await second.ask(2)
    await third.ask(1)

    for client, index in [(first, 0), (first, 1), (second, 0), (third, 0), (first, 2), (second, 1)]:
        await client.leave(index)

    assert log == ["first", "first", "second", "third", "first", "second", "first"]


async def test_who_leaves_the_queue_holds_up_nobody(clients, log):
    holder, leaver, stayer = clients(1, 1, "holder", "leaver", "stayer")
    await holder.ask()
    await leaver.ask(3)
    await stayer.ask()

    for task in leaver.tasks:
        task.cancel()
    await settled()
    await holder.leave(0)

    assert log == ["holder", "stayer"]


async def test_a_place_that_comes_as_its_client_leaves_goes_to_the_next(clients, log):
    leaver, stayer = clients(1, 1, "leaver", "stayer")
    async with leaver.turns.place("holder"):
        await leaver.ask()
        await stayer.ask()
    leaver.tasks[0].cancel()  # its turn has come, and it has not run since
    await settled()

    assert log == ["stayer"]


async def test_all_may_leave_at_once(clients, log):
    holder, leaver, stayer = clients(1, 1, "holder", "leaver", "stayer")
    await holder.ask(2)
    await leaver.ask(2)
    await stayer.ask()

    for task in (*holder.tasks, *leaver.tasks):
        task.cancel()
    await settled()

    assert log == ["holder", "stayer"]


async def test_too_many_that_wait_are_refused_and_others_are_not(clients, log):
    greedy, honest = clients(1, 1, "greedy", "honest", most_waiting_each=3)
    await greedy.ask(4)

    with pytest.raises(TooManyWaitingError):
        async with greedy.turns.place("greedy"):
            pass
    await honest.ask()
    await greedy.leave(0)
    await greedy.leave(1)
    assert log == ["greedy", "greedy", "honest"]


async def test_a_place_is_given_back_by_work_that_fails():
    turns = Turns(1, 1, 1)
    for _ in range(3):
        async with AsyncExitStack() as stack:
            stack.enter_context(pytest.raises(RuntimeError))
            await stack.enter_async_context(turns.place("anyone"))
            raise RuntimeError
