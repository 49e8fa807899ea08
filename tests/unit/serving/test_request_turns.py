"""Requests before Ray Serve's proxy: whoever has many of them delays only its own, and what waits costs nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serve.http import request_turns
from serve.http.request_turns import RequestTurns

MiB = 1024 * 1024
LARGE = (b"content-length", str(MiB).encode())
GREEDY, HONEST = "6.6.6.6", "1.2.3.4"


class Request:
    """A request whose body, reader and answer are in the hands of the test."""

    def __init__(self, front: RequestTurns, path: str, client: str, *headers: tuple[bytes, bytes]) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.receives = 0
        self.begins, self.may_answer = asyncio.Event(), asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        scope = {
            "type": "http", "path": path, "client": (client, 1), "headers": list(headers), "request": self,
        }  # fmt: skip
        if LARGE not in headers:
            self.messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self.task = asyncio.create_task(front(scope, self._receive, self._send))

    async def sends(self, length: int, *, more: bool = False) -> None:
        self.messages.put_nowait({"type": "http.request", "body": bytes(length), "more_body": more})
        await settled()

    async def leaves(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})
        await settled()

    async def is_answered(self) -> None:
        self.may_answer.set()
        await settled()

    async def _receive(self) -> dict[str, Any]:
        self.receives += 1
        return await self.messages.get()

    async def _send(self, message: dict[str, Any]) -> None:
        await self.reads.wait()


async def settled() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def proxy(scope: Any, receive: Any, send: Any) -> None:
    """Play Ray Serve's proxy: it reads the body, waits for the answer, sends its beginning, and its end later."""
    request: Request = scope["request"]
    request.begins.set()
    while (await receive()).get("more_body"):
        pass
    await request.may_answer.wait()
    request.may_answer.clear()
    await send({"type": "http.response.start"})
    await request.may_answer.wait()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
async def ask(pauses, monkeypatch):
    """Sends requests; young ones stay young for ever."""

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    front: list[RequestTurns] = []

    async def start(path: str = "/api/models", client: str = GREEDY, *headers: tuple[bytes, bytes]) -> Request:
        front or front.append(RequestTurns(proxy, pause))
        asked.append(Request(front[0], path, client, *headers))
        await settled()
        return asked[-1]

    monkeypatch.setattr(request_turns, "_YOUNG_SECONDS", 1e6)
    asked: list[Request] = []
    yield start
    for each in asked:
        each.task.cancel()
    await asyncio.gather(*(each.task for each in asked), return_exceptions=True)


@pytest.fixture
def grown_up(ask, monkeypatch):
    """No request is young for longer than a moment."""
    monkeypatch.setattr(request_turns, "_YOUNG_SECONDS", 0)


def begun(*requests: Request) -> list[bool]:
    return [each.begins.is_set() for each in requests]


class TestYoungOnes:
    async def test_of_one_client_wait_for_the_beginnings_of_its_answers(self, ask):
        many = [await ask() for _ in range(6)]
        other = await ask(client=HONEST)
        assert begun(*many, other) == [True] * 2 + [False] * 4 + [True]

        await many[1].is_answered()
        assert begun(*many) == [True] * 3 + [False] * 3

    async def test_of_keys_behind_one_proxy_do_not_wait_for_each_other(self, ask):
        ann, bob = (b"authorization", b"Bearer ann"), (b"x-api-key", b"bob")
        many = [await ask("/api/models", GREEDY, ann) for _ in range(3)]
        assert begun(*many, await ask("/api/models", GREEDY, bob)) == [True] * 2 + [False, True]

    async def test_of_one_network_with_invented_keys_wait(self, ask):
        many = [await ask("/api/models", GREEDY, (b"x-api-key", b"%d" % number)) for number in range(20)]
        assert sum(begun(*many)) == 12
        assert begun(await ask(client=HONEST)) == [True]

    async def test_grow_up(self, ask, monkeypatch):
        monkeypatch.setattr(request_turns, "_YOUNG_SECONDS", 0)
        many = [await ask() for _ in range(6)]
        async with asyncio.timeout(60):
            await many[-1].begins.wait()
        assert all(begun(*many))

    async def test_end_without_an_answer(self, ask):
        many = [await ask() for _ in range(3)]
        many[0].task.cancel()
        await settled()
        assert begun(many[2]) == [True]


@pytest.mark.usefixtures("grown_up")
class TestLargeBodies:
    async def test_nothing_is_read_of_one_that_waits(self, ask):
        many = [await ask("/api/inputs", GREEDY, LARGE) for _ in range(3)]
        other = await ask("/api/inputs", HONEST, LARGE)
        assert [each.receives for each in (*many, other)] == [1, 1, 0, 1]

        await many[0].sends(MiB)
        assert many[2].receives == 1

    async def test_small_ones_do_not_wait(self, ask):
        for _ in range(2):
            await ask("/api/inputs", GREEDY, LARGE)
        assert begun(await ask("/api/inputs", GREEDY, (b"content-length", b"262143"))) == [True]

    @pytest.mark.parametrize("length", [b"-1", b"a", b"", b"\xb2"])
    async def test_a_length_that_is_none_counts_as_large(self, ask, length):
        for _ in range(2):
            await ask("/api/inputs", GREEDY, LARGE)
        assert begun(await ask("/api/inputs", GREEDY, (b"content-length", length))) == [False]
        assert begun(await ask("/api/inputs", GREEDY, (b"transfer-encoding", b"chunked"))) == [False]

    async def test_one_that_leaves_gives_its_turn_to_the_next(self, ask):
        first, second, third, fourth = [await ask("/api/inputs", GREEDY, LARGE) for _ in range(4)]
        await first.leaves()
        assert (third.receives, fourth.receives) == (1, 0)

        second.task.cancel()
        await settled()
        assert fourth.receives == 1

    async def test_they_are_read_at_a_limited_rate(self, ask, pauses):
        large = await ask("/api/inputs", GREEDY, LARGE)
        for _ in range(4):
            await large.sends(MiB // 4, more=True)
        await large.sends(10)
        assert sum(pauses) == pytest.approx(1 / 12)  # a MiB at 12 MiB a second


@pytest.mark.usefixtures("grown_up")
class TestLongAnswers:
    @pytest.mark.parametrize(
        ("path", "most"),
        [
            ("/api/images/download", 2),
            ("/api/image/ID", 8),
            ("/api/get_image/ID", 8),
            ("/api/image/ID/thumbnail", 8),
        ],
    )
    async def test_of_one_client_wait_for_the_ends_of_others(self, ask, path, most):
        many = [await ask(path) for _ in range(most + 1)]
        for each in many:
            await each.is_answered()  # it has begun and is not at its end
        assert begun(*many) == [True] * most + [False]
        assert begun(await ask(path, HONEST)) == [True]

        await many[0].is_answered()
        assert begun(many[-1]) == [True]

    @pytest.mark.parametrize("least_seconds", [0, 1e6])
    @pytest.mark.parametrize("path", ["/api/events", "/api/jobs/ID/events"])
    async def test_streams_wait_too_and_count_for_some_seconds(self, monkeypatch, ask, path, least_seconds):
        streams = request_turns._ANSWERS[0]
        assert (streams.most_each, streams.least_seconds) == (64, 8.0)
        few = streams._replace(most_each=2, least_seconds=least_seconds)
        monkeypatch.setattr(request_turns, "_ANSWERS", [few])
        many = [await ask(path) for _ in range(3)]
        for each in many:
            await each.is_answered()
        assert begun(*many) == [True, True, False]

        await many[0].is_answered()
        assert begun(many[2]) == [least_seconds == 0]

    async def test_one_whose_reader_has_left_never_begins(self, ask):
        first, second, gone, stays = [await ask("/api/images/download") for _ in range(4)]
        await gone.leaves()
        assert gone.task.done()
        for each in (first, second):
            each.task.cancel()
        await settled()
        assert begun(gone, stays) == [False, True]

    async def test_one_that_nobody_reads_is_given_up(self, ask, monkeypatch):
        monkeypatch.setattr(request_turns, "_MOST_UNREAD_SECONDS", 0)
        unread = await ask("/api/images/download")
        unread.reads.clear()
        unread.may_answer.set()
        await unread.task
