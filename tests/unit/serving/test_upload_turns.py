"""Large bodies at Ray Serve's proxy: they wait their turn with nothing read, and small requests pass them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.turns import Turns
from serve.http.upload_turns import UploadTurns

MiB = 1024 * 1024


class Upload:
    """A request whose body comes when the test lets it."""

    def __init__(self, front: UploadTurns, client: str, *headers: tuple[bytes, bytes]) -> None:
        self.pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.receives = 0
        scope = {"type": "http", "client": (client, 1), "headers": list(headers), "state": {}}
        self.task = asyncio.create_task(front(scope, self._receive, self._send))

    async def sends(self, length: int, *, more: bool = False) -> None:
        self.pieces.put_nowait({"type": "http.request", "body": bytes(length), "more_body": more})
        await settled()

    async def _receive(self) -> dict[str, Any]:
        self.receives += 1
        return await self.pieces.get()

    async def _send(self, message: Any) -> None:
        raise AssertionError


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def pauses():
    return []


@pytest.fixture
async def upload(pauses):
    """Starts uploads; two may be read at once, one of each address."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        if scope.get("path") != "/ends":
            await asyncio.Event().wait()  # the answer takes its time

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def start(client: str, length: int | None = MiB) -> Upload:
        header = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", str(length).encode())
        started.append(Upload(front, client, header))
        await settled()
        return started[-1]

    front = UploadTurns(app, Turns(2, 1), pause)
    started: list[Upload] = []
    yield start
    for each in started:
        each.task.cancel()
    await asyncio.gather(*(each.task for each in started), return_exceptions=True)


@pytest.mark.parametrize("length", [MiB, None])
async def test_nothing_is_read_of_one_that_waits(upload, length):
    first, second = await upload("6.6.6.6", length), await upload("6.6.6.6", length)

    assert (first.receives, second.receives) == (1, 0)
    await first.sends(MiB)
    assert second.receives == 1


async def test_others_do_not_wait_for_one_with_many(upload):
    greedy = [await upload("6.6.6.6") for _ in range(5)]
    other = await upload("1.2.3.4")

    assert [each.receives for each in (*greedy, other)] == [1, 0, 0, 0, 0, 1]


async def test_small_ones_and_those_without_a_body_do_not_wait(upload):
    await upload("6.6.6.6")
    assert [(await upload("6.6.6.6", length)).receives for length in (0, 1000, 262_143)] == [1, 1, 1]


@pytest.mark.parametrize("length", [b"-1", b"a", b"", b"\xb2"])
async def test_a_length_that_is_none_counts_as_large(length):
    front = UploadTurns(lambda *_: None, Turns(1, 1))
    async with front._turns.place("6.6.6.6"):
        waiting = Upload(front, "6.6.6.6", (b"content-length", length))
        await settled()
        assert not waiting.task.done()
        waiting.task.cancel()


async def test_one_that_leaves_gives_its_turn_to_the_next(upload):
    first, second, third = [await upload("6.6.6.6") for _ in range(3)]
    first.pieces.put_nowait({"type": "http.disconnect"})
    await settled()
    assert (second.receives, third.receives) == (1, 0)

    second.task.cancel()
    await settled()
    assert third.receives == 1


async def test_a_body_is_read_at_a_limited_rate(upload, pauses):
    large = await upload("6.6.6.6", 64 * MiB)
    for _ in range(8):
        await large.sends(MiB // 8, more=True)
    await large.sends(10)

    assert sum(pauses) == pytest.approx(1 / 32)  # a MiB at 32 MiB a second
