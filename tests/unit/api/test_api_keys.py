"""API keys over HTTP, and their limits."""

from __future__ import annotations

import base64
import logging

import pytest

from deployments.jobs.records.api_keys import NO_LIMITS, NewKey, Scope, hash_of, make_key
from deployments.settings.service import Settings
from serve.protection.links import Links
from tests.support.api_service import api_service, sentence
from tests.support.protected_service import BODY, Protected


class TestKeys:
    async def test_are_taken_in_three_ways(self, protected):
        bearer = (await protected.key("ann"))["Authorization"]
        key = bearer.split(" ")[1]
        basic = base64.b64encode(f"anybody:{key}".encode()).decode()
        for headers in ({"Authorization": bearer}, {"X-API-Key": key}, {"Authorization": f"Basic {basic}"}):
            assert (await protected.service.http.get("/api/models", headers=headers)).status_code == 200

    async def test_are_made_listed_and_revoked_over_http(self, protected):
        http, boss = protected.service.http, await protected.key("boss", Scope.ADMIN)
        made = (await http.post("/api/keys", headers=boss, json={"name": "ann", "scopes": ["read"]})).json()
        ann = {"X-API-Key": made["key"]}
        assert (await http.get("/api/models", headers=ann)).status_code == 200

        listed = (await http.get("/api/keys", headers=boss)).json()["keys"]
        assert [(key["name"], key["scopes"]) for key in listed] == [("boss", ["admin"]), ("ann", ["read"])]
        assert made["key"] not in str(listed)
        revoked = (await http.delete(f"/api/keys/{made['id']}", headers=boss)).json()
        assert revoked["revoked_at"] is not None
        message = sentence(await http.get("/api/models", headers=ann), 401)
        assert message == "The API key is not a valid one; it may have been revoked."
        assert sentence(await http.delete("/api/keys/none", headers=boss), 404) == "There is no API key none."

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "name"),
            ({"name": "a b"}, "name"),
            ({"name": "127.0.0.1"}, "name: 127.0.0.1 is an address, and jobs that were submitted without keys belong"),
            ({"name": "10.1.2.3"}, "name: 10.1.2.3 is an address"),
            *(({"name": name}, "name: ") for name in (" 10.1.2.3", "10.1.2.3\n", "::1", "::ffff:10.1.2.3", "[::1]")),
            ({"name": "ann", "scopes": []}, "scopes"),
            ({"name": "ann", "scopes": ["all"]}, "scopes.0"),
            ({"name": "ann", "limits": {"queued_jobs": 0}}, "limits.queued_jobs"),
            ({"name": "ann", "limits": {"models": ["a\0"]}}, "limits.models.0"),
            ({"name": "ann", "admin": True}, "admin"),
        ],
    )
    async def test_that_cannot_be_are_refused(self, protected, body, field):
        boss = await protected.key("boss", Scope.ADMIN)
        assert sentence(await protected.service.http.post("/api/keys", headers=boss, json=body), 400).startswith(field)

    async def test_cannot_be_made_while_everybody_is_let_in(self, tmp_path):
        async with api_service(tmp_path) as service:
            assert "cyberimage keys create" in sentence(await service.http.post("/api/keys", json={"name": "a"}), 403)
            assert await service.tracker.keys.list() == []

    async def test_are_asked_about_once_in_a_while_only(self, tmp_path):
        async with api_service(tmp_path, auth={"mode": "keys"}) as service:
            ann = await Protected(service).key("ann")
            assert (await service.http.get("/api/models", headers=ann)).status_code == 200
            (key,) = await service.tracker.keys.list()
            await service.tracker.keys.revoke(key.id, "root")
            assert (await service.http.get("/api/models", headers=ann)).status_code == 200

    async def test_are_in_no_log(self, protected, caplog):
        caplog.set_level(logging.DEBUG)
        key = (await protected.key("ann"))["Authorization"].split(" ")[1]
        basic = base64.b64encode(f"a:{key}".encode()).decode()
        wrong = make_key()[1]
        http = protected.service.http
        link = (await Links(Settings(auth={"mode": "keys"}).auth, protected.service.tracker).link_to("/api/none")).path
        for headers in ({"X-API-Key": key}, {"Authorization": f"Basic {basic}"}, {"X-API-Key": wrong}):
            await http.post("/api/generate", headers=headers, json={"model_id": 1})
            await http.get("/api/none", headers=headers)
        logging.getLogger("httpx").setLevel(logging.WARNING)  # the client's own log
        await http.get(link)

        for secret in (key, key.rpartition("_")[2], basic, wrong, link.rpartition("=")[2]):
            assert secret not in caplog.text


class TestAKeyNamedLikeAnAddress:
    """An earlier version made such keys, and records of addresses are from the time before keys."""

    async def test_does_not_have_what_the_address_made(self, tmp_path):
        async with api_service(tmp_path) as service:
            job_id = await service.submit()
            (image,) = await service.finish(await service.start())
        async with api_service(tmp_path, auth={"mode": "keys", "cache_seconds": 0}) as service:
            earlier = NewKey.model_construct(name="10.1.2.3", scopes=(Scope.READ, Scope.GENERATE), limits=NO_LIMITS)
            key_id, key = make_key()
            await service.tracker.keys.add(key_id, hash_of(key), earlier, "root")
            http, mine = service.http, {"X-API-Key": key}

            assert (await http.get("/api/jobs", headers=mine)).json()["jobs"] == []
            assert (await http.get("/api/jobs?client=10.1.2.3", headers=mine)).json()["jobs"] == []
            assert (await http.get("/api/gallery?owner=10.1.2.3", headers=mine)).json()["images"] == []
            assert (await http.get(f"/api/status/{job_id}", headers=mine)).status_code == 404
            assert (await http.get(f"/api/image/{image.id}", headers=mine)).status_code == 404
            made = (await http.post("/api/generate", headers=mine, json=BODY)).json()["job_id"]
            listed = (await http.get("/api/jobs", headers=mine)).json()["jobs"]
            assert [(job["id"], job["client"]) for job in listed] == [(made, "key:10.1.2.3")]


class TestLimitsOfAKey:
    async def test_models_and_priority(self, protected):
        http = protected.service.http
        ann = await protected.key("ann", priority="low", models=("other",))
        message = sentence(await http.post("/api/generate", headers=ann, json=BODY), 403)
        assert message == "model_id: your API key is not for shapes; it is for other."

        ann = await protected.key("ann", priority="normal")
        message = sentence(await http.post("/api/generate", headers=ann, json=BODY | {"priority": "high"}), 403)
        assert message == "priority: high is not for your API key; normal is its highest class."
        low = await protected.key("ann", priority="low")
        job_id = (await http.post("/api/generate", headers=low, json=BODY)).json()["job_id"]
        assert (await protected.service.job(job_id)).priority == "low"
        raised = await http.post(f"/api/jobs/{job_id}/priority", headers=low, json={"priority": "normal"})
        assert sentence(raised, 403).startswith("priority: normal is not for your API key")

    async def test_a_retry_and_a_batch_are_no_way_around(self, protected):
        http, ann = protected.service.http, await protected.key("ann")
        few = await protected.key("ann", models=("other",))
        job_id = (await http.post("/api/generate", headers=ann, json=BODY)).json()["job_id"]
        await http.delete(f"/api/jobs/{job_id}", headers=ann)
        assert sentence(await http.post(f"/api/jobs/{job_id}/retry", headers=few), 403)
        assert sentence(await http.post("/api/jobs/batch", headers=few, json={"jobs": [BODY]}), 403)

    async def test_jobs_and_images(self, protected):
        http, ann = protected.service.http, await protected.key("ann", queued_jobs=1)
        assert (await http.post("/api/generate", headers=ann, json=BODY)).status_code == 200
        full = await http.post("/api/generate", headers=ann, json=BODY)
        assert sentence(full, 429).startswith("You have too many jobs waiting (1 may wait)")
        assert full.headers["Retry-After"]

        bob = await protected.key("bob", images_per_day=2)
        response = await http.post("/api/generate", headers=bob, json=BODY | {"settings": {"num_images": 3}})
        assert sentence(response, 429).startswith("You may ask for 2 images a day (UTC), and 2 are left")
        assert 0 < int(response.headers["Retry-After"]) <= 24 * 3600 + 1

    async def test_requests_per_minute(self, protected):
        http, bob = protected.service.http, await protected.key("bob")
        ann = await protected.key("ann", requests_per_minute=2)
        answers = [await http.post("/api/generate", headers=ann, json=BODY) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
        assert {answer.headers["RateLimit-Limit"] for answer in answers} == {"2"}
        assert answers[2].headers["Retry-After"] == answers[2].headers["RateLimit-Reset"]
        assert "more than 2 requests in a minute" in sentence(answers[2], 429)
        unlimited = await http.post("/api/generate", headers=bob, json=BODY)
        assert unlimited.status_code == 200
        assert "RateLimit-Limit" not in unlimited.headers
        assert (await http.get("/api/models", headers=ann)).status_code == 200
