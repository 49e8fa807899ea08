"""Whoever tries wrong keys is refused before anything is looked up, and shuts out nobody else."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

import serve.services.services
from deployments.jobs.records.api_keys import ApiKey, Scope, hash_of, make_key
from deployments.settings.service import Settings
from deployments.tracker.rate_windows import RateWindows
from serve.protection.protection import Clocks, Protection, UnauthenticatedError, WrongKeyError, WrongLinkError
from serve.protection.wrong_keys import TooManyWrongKeysError, WrongKeys
from tests.support.api_service import api_service, sentence
from tests.support.protected_service import Protected
from tests.support.protection_stand_ins import ClockedStorage, Keys, Seconds

LIMIT, ADDRESS, PATH = 3, "1.2.3.4", "/api/image/1"


class DistantKeys(Keys):
    """Others are served before the answer comes."""

    async def check(self, key_id, key_hash):
        await asyncio.sleep(0)
        return await super().check(key_id, key_hash)


class Front:
    """A replica's protection, by a clock of the test; records how long each refusal was held."""

    def __init__(self, key: str) -> None:
        self.seconds = Seconds()
        self.tracker = DistantKeys(key)
        self.tracker.known = {hash_of(key): api_key("ann")}
        self.pauses: list[float] = []
        self.windows = RateWindows(ClockedStorage(self.seconds), self.seconds)
        auth = {"mode": "keys", "wrong_keys_per_minute": LIMIT, "signing_secret": "a secret", "cache_seconds": 10}
        self.protection = Protection(
            Settings(auth=auth), self.tracker, self.windows, Clocks(self.seconds, self.seconds, self._pause)
        )

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def ask(self, key: str | None, address: str = ADDRESS, query: dict[str, str] | None = None) -> str:
        headers = {} if key is None else {"x-api-key": key}
        return (await self.protection.identify(address, "GET", PATH, headers, query or {})).name

    async def try_wrong_keys(self, address: str = ADDRESS, number: int = LIMIT) -> None:
        for _ in range(number):
            with pytest.raises(WrongKeyError):
                await self.ask(make_key()[1], address)


def api_key(name: str) -> ApiKey:
    return ApiKey(id="0" * 12, name=name, scopes=(Scope.READ,), created_at="2026-01-01T00:00:00Z")


@pytest.fixture
def key() -> str:
    return make_key()[1]


@pytest.fixture
def front(key: str) -> Front:
    return Front(key)


class TestTooMany:
    async def test_are_refused_without_a_look(self, front):
        await front.try_wrong_keys()
        asked = front.tracker.asked
        for _ in range(5):
            with pytest.raises(TooManyWrongKeysError, match=r"3 wrong keys or links .* try again in 60 s\.") as refusal:
                await front.ask(make_key()[1])
            assert (refusal.value.status, refusal.value.retry_after_seconds) == (429, 60)

        assert front.tracker.asked == asked == LIMIT
        assert front.pauses == [2.0] * 5

    async def test_are_forgotten_after_a_minute(self, front, key):
        await front.try_wrong_keys()
        front.seconds.now += 59
        with pytest.raises(TooManyWrongKeysError):
            await front.ask(key)
        front.seconds.now += 1

        assert await front.ask(key) == "ann"

    async def test_count_whatever_is_no_key_and_wrong_links(self, front):
        with pytest.raises(WrongKeyError):
            await front.ask("guess")
        for signature in ("0" * 64, ""):
            with pytest.raises(WrongLinkError):
                await front.ask(None, query={"expires": "9999999999", "signature": signature})
        for query in ({}, {"expires": "9999999999", "signature": "0" * 64}):
            with pytest.raises(TooManyWrongKeysError):
                await front.ask("guess", query=query)
        with pytest.raises(TooManyWrongKeysError):
            await front.ask(None, query={"expires": "9999999999", "signature": "0" * 64})
        assert front.tracker.asked == 0

    async def test_do_not_count_requests_without_a_key(self, front, key):
        for _ in range(5 * LIMIT):
            with pytest.raises(UnauthenticatedError) as refusal:
                await front.ask(None)
            assert refusal.value.code == "missing_api_key"

        assert await front.ask(key) == "ann"

    async def test_that_come_at_once_are_looked_up_no_more_often(self, front):
        tries = await asyncio.gather(*(front.ask(make_key()[1]) for _ in range(200)), return_exceptions=True)

        assert [type(error) for error in tries].count(WrongKeyError) == front.tracker.asked == LIMIT
        assert [type(error) for error in tries].count(TooManyWrongKeysError) == 200 - LIMIT

    async def test_are_counted_by_the_network_of_an_ipv6_address(self, front, key):
        for host in range(LIMIT):
            await front.try_wrong_keys(f"2001:db8::{host}", 1)
        with pytest.raises(TooManyWrongKeysError):
            await front.ask(key, "2001:db8::ffff:1")

        assert await front.ask(key, "2001:db8:0:1::1") == "ann"


class TestHonestClients:
    async def test_at_the_same_address_go_on(self, front, key):
        assert await front.ask(key) == "ann"
        await front.try_wrong_keys()
        for _ in range(3):
            assert await front.ask(key) == "ann"
            front.seconds.now += 11  # the look-up is no longer cached
        assert front.pauses == []

    async def test_elsewhere_begin(self, front, key):
        await front.try_wrong_keys()

        assert await front.ask(key, "1.2.3.5") == "ann"

    async def test_open_links(self, front):
        link = await front.protection.links.link_to(PATH)
        query = dict(part.split("=") for part in link.path.partition("?")[2].split("&"))
        await front.try_wrong_keys()

        assert await front.ask(None, query=query) == ADDRESS
        assert await front.ask(make_key()[1], query=query) == ADDRESS

    async def test_are_those_of_the_last_hour(self, front, key):
        await front.ask(key)
        front.seconds.now += 3600
        await front.try_wrong_keys()

        with pytest.raises(TooManyWrongKeysError):
            await front.ask(key)

    async def test_are_no_longer_those_whose_key_is_revoked(self, front, key):
        await front.ask(key)
        front.tracker.known.clear()
        front.seconds.now += 10
        await front.try_wrong_keys(number=LIMIT - 1)
        with pytest.raises(WrongKeyError):
            await front.ask(key)
        asked = front.tracker.asked
        front.seconds.now += 10
        with pytest.raises(TooManyWrongKeysError):
            await front.ask(key)
        assert front.tracker.asked == asked

    async def test_of_many_requests_at_once_are_looked_up_once(self, front, key):
        assert set(await asyncio.gather(*(front.ask(key) for _ in range(50)))) == {"ann"}
        assert front.tracker.asked == 1


async def test_some_hundred_refusals_wait_and_the_others_are_answered_at_once():
    released = asyncio.Event()

    async def pause(_: float) -> None:
        await released.wait()

    async def look_up() -> None:
        return None

    seconds = Seconds()
    wrong_keys = WrongKeys(1, RateWindows(ClockedStorage(seconds), seconds), pause)
    assert await wrong_keys.attempt(ADDRESS, look_up) is None
    refused = [asyncio.create_task(wrong_keys.attempt(ADDRESS, look_up)) for _ in range(300)]
    done, waiting = await asyncio.wait(refused, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 300 - 256:
        more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    assert len(waiting) == 256
    waiting.pop().cancel()  # its client leaves
    released.set()
    ended = await asyncio.gather(*refused, return_exceptions=True)

    assert {type(error) for error in ended} == {TooManyWrongKeysError, asyncio.CancelledError}


async def test_over_http(tmp_path, monkeypatch):
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(serve.services.services, "Protection", partial(Protection, clocks=Clocks(pause=pause)))
    auth = {"mode": "keys", "wrong_keys_per_minute": 2, "cache_seconds": 0}
    async with api_service(tmp_path, auth=auth) as service:
        ann, bob = [await Protected(service).key(name) for name in ("ann", "bob")]
        assert (await service.http.get("/api/models", headers=ann)).status_code == 200
        wrong = {"Authorization": f"Bearer {make_key()[1]}"}
        assert [(await service.http.get("/api/models", headers=wrong)).status_code for _ in range(2)] == [401, 401]
        refused = await service.http.get("/api/models", headers=wrong)
        also = await service.http.get("/v1/models", headers=bob)
        known = await service.http.get("/api/models", headers=ann)
        page = await service.http.get("/", headers=wrong)

    assert sentence(refused, 429).startswith("There were 2 wrong keys or links from your network in a minute")
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert (also.status_code, also.json()["error"]["code"]) == (429, "too_many_wrong_keys")
    assert (known.status_code, page.status_code) == (200, 200)
    assert pauses == [2.0, 2.0]
