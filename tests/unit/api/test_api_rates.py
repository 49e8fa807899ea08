"""How many requests a client may send, and how long one may take."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.api_service import api_service, sentence
from tests.support.job_trackers import StandIn
from tests.support.protected_service import BODY


class TestRates:
    async def test_of_everybody_are_by_address(self, tmp_path):
        limits = {"submits_per_minute": 1, "reads_per_minute": 2}
        async with api_service(tmp_path, limits=limits, trusted_proxies=["10.1.2.3"]) as service:

            async def statuses(method, path, address):
                headers = {"X-Forwarded-For": address}
                return [
                    (await service.http.request(method, path, headers=headers, json=BODY)).status_code for _ in "ab"
                ]

            for address in ("1.1.1.1", "2.2.2.2"):
                assert await statuses("POST", "/api/generate", address) == [200, 429]
                assert await statuses("GET", "/api/models", address) == [200, 200]
                assert await statuses("GET", "/api/queue", address) == [429, 429]
            assert (await service.http.get("/live")).status_code == 200

    async def test_a_refused_submit_says_when_to_come_back(self, tmp_path):
        async with api_service(tmp_path, limits={"submits_per_minute": 1}) as service:
            await service.submit()
            refused = await service.http.post("/api/generate", json=BODY)

        assert sentence(refused, 429)
        assert 1 <= int(refused.headers["Retry-After"]) <= 60

    async def test_of_two_clusters_are_one_where_redis_counts(self, tmp_path, redis_server):
        limits = {"submits_per_minute": 3, "redis_url": redis_server.url}
        for name in "ab":
            (tmp_path / name).mkdir()
        async with api_service(tmp_path / "a", limits=limits) as one, api_service(tmp_path / "b", limits=limits) as two:
            answers = [await each.http.post("/api/generate", json=BODY) for each in (one, two, one, two, one)]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0", "0"]
        assert sentence(answers[-1], 429)

    async def test_are_the_trackers_while_redis_is_dead_and_redis_s_again_when_it_is_back(
        self, tmp_path, redis_server, caplog
    ):
        limits = {"submits_per_minute": 2, "redis_url": redis_server.url}
        async with api_service(tmp_path, limits=limits) as service:

            async def statuses(requests):
                return [(await service.http.post("/api/generate", json=BODY)).status_code for _ in range(requests)]

            assert await statuses(1) == [200]
            redis_server.stop()
            assert await statuses(3) == [200, 200, 429]
            assert "limits.redis_url cannot be used" in caplog.text
            redis_server.start()
            assert await statuses(3) == [200, 200, 429]

    async def test_do_not_wait_for_a_redis_that_hangs(self, tmp_path, redis_server, caplog):
        limits = {"submits_per_minute": 1, "redis_url": redis_server.url}
        async with api_service(tmp_path, limits=limits, answer_seconds=3) as service:
            redis_server.hang()
            answer = await service.http.post("/api/generate", json=BODY)

        assert answer.status_code == 200
        assert "limits.redis_url cannot be used" in caplog.text


class TestTime:
    @pytest.mark.parametrize("name", ["X-Request-Timeout-Seconds", "X-Request-Disconnect-Disabled"])
    async def test_is_not_the_clients_to_set(self, tmp_path, name):
        async with api_service(tmp_path) as service:
            message = sentence(await service.http.get("/api/models", headers={name: "0"}), 400)
        assert message == f"{name.lower()}: this header is not for clients; leave it out."

    async def test_a_body_that_does_not_arrive_is_not_waited_for(self, tmp_path):
        async def never_complete():
            yield b"{"
            await asyncio.Event().wait()

        async with api_service(tmp_path, body_seconds=0.01) as service:
            headers = {"Content-Type": "application/json"}
            response = await service.http.post("/api/generate", content=never_complete(), headers=headers)
        assert sentence(response, 408) == "The request's body did not arrive within 0.01 s."

    async def test_an_answer_that_does_not_begin_is_not_waited_for(self, tmp_path):
        hanging = StandIn(asyncio.Event().wait)
        async with api_service(tmp_path, tracker=hanging, answer_seconds=0.01) as service:
            response = await service.http.get("/api/queue")
        assert sentence(response, 504) == "There was no answer within 0.01 s."

    async def test_an_answer_that_has_begun_may_take_its_time(self, tmp_path):
        may_end = asyncio.Event()

        async def slow(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"be", "more_body": True})
            await may_end.wait()
            await send({"type": "http.response.body", "body": b"gun"})

        async with api_service(tmp_path, answer_seconds=0.01) as service:
            service.app.mount("/slow", slow)
            asyncio.get_running_loop().call_later(0.05, may_end.set)
            response = await service.http.get("/slow/")
        assert response.text == "begun"
