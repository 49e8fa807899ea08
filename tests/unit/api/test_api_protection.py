"""Who may do what over HTTP: every route with no key, a wrong one, each scope, and another owner's things."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from deployments.jobs.records.api_keys import KeyLimits, NewKey, Scope, hash_of, make_key
from deployments.settings.service import Settings
from serve.application import build_api
from serve.http.access import Access, is_public
from serve.protection.links import Links
from serve.services.services import Services
from tests.support.api_service import CPU_CATALOG, PROJECT, PROMPT, ApiService, api_service, sentence
from tests.support.job_trackers import StandIn

NOBODY = "00000000-0000-4000-8000-000000000000"
BODY = {"model_id": "shapes", "prompt": PROMPT}
BODIES: dict[str, Any] = {
    "/api/generate": BODY,
    "/api/jobs/batch": {"jobs": [BODY]},
    "/api/jobs/{job_id}/priority": {"priority": "low"},
    "/api/keys": {"name": "new"},
    "/api/images/delete": {"ids": [NOBODY]},
    "/api/images/download": {"ids": [NOBODY]},
    "/api/enrich": {"prompt": PROMPT},
    "/api/prompts/count": {"model_id": "shapes", "prompt": PROMPT},
    "/api/mcp": {"jsonrpc": "2.0", "id": 1, "method": "context.image_generation.models"},
    "/mcp": {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
    "/sdapi/v1/options": {"sd_model_checkpoint": "shapes"},
}
QUERIES = {("DELETE", "/api/jobs"): "?state=failed"}
ENDLESS = {"/api/events"}  # a stream that ends with its client
LET_IN = {"/api/inputs": (415,), "/api/enrich": (503,)}  # what they answer to what is sent here
# They wait for a replica, or refuse a body that is none.
WAITING = {"/v1/images/generations", "/v1/images/edits", "/sdapi/v1/txt2img", "/sdapi/v1/img2img"}


def routes_of(routes: list[Any]) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif (context := getattr(route, "include_context", None)) is not None:
            yield from routes_of(context.included_router.routes)


APP = build_api(Services(Settings(data_dir=PROJECT / "data"), CPU_CATALOG, None, None))
ROUTES = [(method, route) for route in routes_of(APP.routes) for method in sorted(route.methods)]
PROTECTED = [(method, route) for method, route in ROUTES if not is_public(route.path.replace("{name}", "a.js"))]
OWNED = [(method, route) for method, route in PROTECTED if "{job_id}" in route.path or "{image_id}" in route.path]
EVERY_ROUTE, EVERY_PROTECTED_ROUTE, EVERY_OWNED_ROUTE = (
    pytest.mark.parametrize(("method", "route"), routes, ids=[f"{method} {route.path}" for method, route in routes])
    for routes in (ROUTES, PROTECTED, OWNED)
)


def access_of(route: APIRoute) -> list[Access]:
    return [each.call for each in route.dependant.dependencies if isinstance(each.call, Access)]


@dataclass
class Protected:
    """A service that asks for API keys."""

    service: ApiService

    async def key(self, name: str, *scopes: Scope, **limits: Any) -> dict[str, str]:
        """Make a key; gives the header to send."""
        key_id, key = make_key()
        new = NewKey(name=name, scopes=scopes or (Scope.READ, Scope.GENERATE), limits=KeyLimits(**limits))
        await self.service.tracker.keys.add(key_id, hash_of(key), new, "root")
        return {"Authorization": f"Bearer {key}"}

    async def ask(self, method: str, route: APIRoute, headers: dict[str, str], **ids: str) -> httpx.Response:
        """Send what the route takes."""
        headers = {"Accept": "application/json, text/event-stream", **headers}
        path = route.path
        known = {
            "job_id": NOBODY,
            "image_id": NOBODY,
            "key_id": "0" * 12,
            "model_id": "shapes",
            "model": "shapes",
        } | ids
        for name, value in known.items():
            path = path.replace(f"{{{name}}}", value)
        body = BODIES.get(route.path) if method == "POST" else None
        path += QUERIES.get((method, route.path), "")
        return await self.service.http.request(method, path, headers=headers, json=body)

    async def finished_job(self, headers: dict[str, str]) -> tuple[str, str]:
        """Bring a job of this key to its end; gives its id and its image's."""
        answer = await self.service.http.post("/api/generate", headers=headers, json=BODY)
        assert answer.status_code == 200, answer.text
        (image,) = await self.service.finish(await self.service.start())
        return answer.json()["job_id"], image.id


@pytest.fixture
async def protected(tmp_path):
    async with api_service(tmp_path, auth={"mode": "keys", "cache_seconds": 0}) as service:
        yield Protected(service)


class TestEveryRoute:
    @EVERY_ROUTE
    def test_asks_for_one_scope_or_is_public(self, method, route):
        assert len(access_of(route)) == (0 if is_public(route.path.replace("{name}", "a.js")) else 1)

    def test_is_known_here(self):
        paths = {route.path for _, route in ROUTES}
        assert {"/api/generate", "/api/keys", "/api/image/{image_id}", "/health"} <= paths

    @EVERY_PROTECTED_ROUTE
    async def test_answers_401_without_a_key_and_with_a_wrong_one(self, protected, method, route):
        wrong = {"Authorization": f"Bearer {make_key()[1]}"}
        for headers in ({}, wrong, {"X-API-Key": "guess"}, {"Authorization": "Basic guess"}):
            response = await protected.ask(method, route, headers)

            assert response.status_code == 401, response.text
            assert response.headers["WWW-Authenticate"].startswith("Bearer ")

    @EVERY_PROTECTED_ROUTE
    async def test_lets_in_those_with_its_scope_only(self, protected, method, route):
        (access,) = access_of(route)
        for scope in Scope:
            headers = await protected.key("ann", scope)
            if route.path in ENDLESS | WAITING and scope in (access.scope, Scope.ADMIN):
                continue
            response = await protected.ask(method, route, headers)

            if scope in (access.scope, Scope.ADMIN):
                assert response.status_code in LET_IN.get(route.path, (200, 404)), response.text
            elif method == "HEAD":
                assert response.status_code == 403
            else:
                assert response.status_code == 403
                assert f"Your API key may not do that: it needs the scope {access.scope}." in response.text

    @EVERY_OWNED_ROUTE
    async def test_knows_nothing_of_what_is_anothers(self, protected, method, route):
        ann, bob = await protected.key("ann"), await protected.key("bob")
        job_id, image_id = await protected.finished_job(ann)
        of_another = await protected.ask(method, route, bob, job_id=job_id, image_id=image_id)
        of_nobody = await protected.ask(method, route, bob)

        assert of_another.status_code == of_nobody.status_code == 404, of_another.text
        assert of_another.text.replace(job_id, NOBODY).replace(image_id, NOBODY) == of_nobody.text
        assert (await protected.service.tracker.images.get(image_id)).client == "ann"

    @EVERY_OWNED_ROUTE
    async def test_shows_the_owner_a_new_key_of_the_owner_and_an_admin_what_is_theirs(self, protected, method, route):
        ann, again, boss = await protected.key("ann"), await protected.key("ann"), await protected.key("b", *Scope)
        for headers in (ann, again, boss):
            job_id, image_id = await protected.finished_job(ann)
            answer = await protected.ask(method, route, headers, job_id=job_id, image_id=image_id)

            # 409: a job that has ended cannot be retried or moved; 404: and it has no preview any more.
            expected = {"/api/jobs/{job_id}/preview": 404, "/api/jobs/{job_id}/retry": 409}
            expected["/api/jobs/{job_id}/priority"] = 409
            assert answer.status_code == expected.get(route.path, 200), answer.text

    @pytest.mark.parametrize("path", ["/", "/live", "/health", "/docs", "/openapi.json", "/static/page.js"])
    async def test_that_is_public_needs_no_key_and_minds_no_wrong_one(self, protected, path):
        for headers in ({}, {"Authorization": "Bearer guess"}):
            assert (await protected.service.http.get(path, headers=headers)).status_code == 200

    async def test_that_is_not_there_is_401_too(self, protected):
        assert sentence(await protected.service.http.get("/api/nothing"), 401)
        assert sentence(await protected.service.http.put("/api/generate"), 401)
        assert sentence(await protected.service.http.get("/api/nothing", headers=await protected.key("ann")), 404)


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


class TestOwners:
    async def test_lists_have_their_own_only(self, protected):
        http, ann, bob = protected.service.http, await protected.key("ann"), await protected.key("bob")
        boss = await protected.key("boss", Scope.ADMIN)
        of_ann, _ = await protected.finished_job(ann)
        of_bob, _ = await protected.finished_job(bob)

        async def listed(headers, query=""):
            answer = await http.get(f"/api/jobs{query}", headers=headers)
            return {job["id"] for job in answer.json()["jobs"]}

        assert await listed(ann) == await listed(ann, "?client=ann") == {of_ann}
        assert await listed(ann, "?client=bob") == set()
        assert await listed(boss) == {of_ann, of_bob}
        assert await listed(boss, "?client=bob") == {of_bob}

    async def test_the_gallery_and_what_is_done_there_is_of_their_own_only(self, protected):
        http, ann, bob = protected.service.http, await protected.key("ann"), await protected.key("bob")
        boss = await protected.key("boss", Scope.ADMIN)
        _, of_ann = await protected.finished_job(ann)
        _, of_bob = await protected.finished_job(bob)
        await http.put(f"/api/image/{of_ann}/tags/mine", headers=ann)

        async def shown(headers, query=""):
            answer = (await http.get(f"/api/gallery{query}", headers=headers)).json()
            return {image["id"] for image in answer["images"]}, answer["total"]

        assert await shown(ann) == await shown(ann, "?owner=ann&search=circle") == ({of_ann}, 1)
        assert await shown(ann, "?owner=bob") == (set(), 0)
        assert await shown(boss) == ({of_ann, of_bob}, 2)
        assert await shown(boss, "?owner=bob") == ({of_bob}, 1)
        assert (await http.get("/api/tags", headers=bob)).json() == {"tags": []}
        assert [each["owner"] for each in (await http.get("/api/usage", headers=bob)).json()["usage"]] == ["bob"]
        both = {"ids": [of_ann, of_bob]}
        gone = (await http.post("/api/images/delete", headers=bob, json=both)).json()
        assert (gone["deleted"], gone["missing"]) == ([of_bob], [of_ann])
        archive = await http.post("/api/images/download", headers=bob, json=both)
        assert f"{of_ann}.png".encode() not in archive.content

    async def test_jobs_start_from_their_own_pictures_only(self, protected):
        http, ann, bob = protected.service.http, await protected.key("ann"), await protected.key("bob")
        _, image_id = await protected.finished_job(ann)
        asked = BODY | {"image": image_id, "settings": {"width": 64, "height": 64}}
        refused = await http.post("/api/generate", headers=bob, json=asked)

        assert sentence(refused, 400).startswith("image: there is no input and no image")
        assert (await http.post("/api/generate", headers=ann, json=asked)).status_code == 200

    async def test_an_idempotency_key_is_its_owners(self, protected):
        http, ids = protected.service.http, []
        for name in ("ann", "bob", "ann"):
            headers = await protected.key(name) | {"Idempotency-Key": "same"}
            ids.append(
                (await http.post("/api/generate", headers=headers, json=BODY | {"settings": {"seed": 1}})).json()
            )
        assert ids[0] == ids[2] != ids[1]

    async def test_images_are_kept_by_their_own_browser_only(self, protected):
        ann = await protected.key("ann")
        _, image_id = await protected.finished_job(ann)
        response = await protected.service.http.get(f"/api/image/{image_id}", headers=ann)

        assert response.headers["Cache-Control"].startswith("private, ")


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


class TestLinks:
    async def test_open_one_image_without_a_key(self, protected):
        http, ann, bob = protected.service.http, await protected.key("ann"), await protected.key("bob")
        _, image_id = await protected.finished_job(ann)
        answer = await http.get(f"/api/image/{image_id}/link", headers=ann)
        url = answer.json()["url"]

        assert url.startswith(f"http://service/api/image/{image_id}?expires=")
        for method in ("GET", "HEAD"):
            assert (await http.request(method, url)).status_code == 200
            assert (await http.request(method, url, headers=bob)).status_code == 200
        assert sentence(await http.delete(url), 401)
        assert sentence(await http.get(url.replace(image_id, NOBODY)), 403)
        assert sentence(await http.get(url.replace("/api/image/", "/api/get_image/")), 403)
        assert sentence(await http.get(url.replace("expires=", "expires=1")), 403)
        message = sentence(await http.get(url[:-1] + ("0" if url[-1] != "0" else "1")), 403)
        assert message == "The link has expired or was changed; ask for a new one."

    async def test_expire(self, protected):
        _, image_id = await protected.finished_job(await protected.key("ann"))
        settings = Settings(auth={"mode": "keys", "link_seconds": 60}).auth
        old = Links(settings, protected.service.tracker, clock=lambda: 1_000_000_000)
        link = await old.link_to(f"/api/image/{image_id}")

        assert sentence(await protected.service.http.get(link.path), 403)

    async def test_that_are_no_good_do_no_harm_beside_a_key(self, protected):
        ann = await protected.key("ann")
        _, image_id = await protected.finished_job(ann)
        response = await protected.service.http.get(f"/api/image/{image_id}?expires=1&signature=0", headers=ann)

        assert response.status_code == 200

    async def test_know_the_proxy_in_front(self, tmp_path):
        async with api_service(tmp_path, trusted_proxies=["10.0.0.0/8"]) as service:
            image, _ = await service.make_image()
            headers = {"X-Forwarded-Proto": "https", "Host": "pictures.example"}
            answer = await service.http.get(f"/api/image/{image.id}/link", headers=headers)

        assert answer.json() == {"url": f"https://pictures.example/api/image/{image.id}", "expires_at": None}


class TestClients:
    @pytest.mark.parametrize(("trusted", "client"), [([], "10.1.2.3"), (["10.1.2.3"], "1.2.3.4")])
    async def test_are_who_a_trusted_proxy_says(self, tmp_path, trusted, client):
        async with api_service(tmp_path, trusted_proxies=trusted) as service:
            service.http.headers["X-Forwarded-For"] = "6.6.6.6, 1.2.3.4"
            job = await service.job(await service.submit())

        assert job.request.client == client

    async def test_are_keys_where_these_are_asked_for(self, protected):
        job_id, _ = await protected.finished_job(await protected.key("ann"))

        assert (await protected.service.job(job_id)).request.client == "ann"


class TestOtherSites:
    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    @pytest.mark.parametrize(("method", "path"), [("POST", "/api/generate"), ("DELETE", f"/api/image/{NOBODY}")])
    async def test_change_nothing(self, tmp_path, site, method, path):
        headers = {"Sec-Fetch-Site": site, "Origin": "https://evil.example"}
        async with api_service(tmp_path, cors={"allowed_origins": ["https://good.example"]}) as service:
            response = await service.http.request(method, path, headers=headers, json=BODY)
            assert sentence(response, 403).startswith("The request comes from another site's page")
            assert "Access-Control-Allow-Origin" not in response.headers
            assert (await service.tracker.counts.by_state()).total == 0

    @pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}])
    async def test_own_pages_and_other_programs_do(self, tmp_path, headers):
        async with api_service(tmp_path) as service:
            assert (await service.http.post("/api/generate", headers=headers, json=BODY)).status_code == 200

    @pytest.mark.parametrize("allowed", ["https://good.example", "*"])
    async def test_allowed_ones_read_errors_and_headers_too(self, tmp_path, allowed):
        origin = {"Sec-Fetch-Site": "cross-site", "Origin": "https://good.example"}
        auth = {"mode": "keys"}
        async with api_service(tmp_path, auth=auth, cors={"allowed_origins": [allowed]}) as service:
            asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
            preflight = await service.http.options("/api/generate", headers=origin | asked)
            refused = await service.http.post("/api/generate", headers=origin, json=BODY)
            ann = await Protected(service).key("ann")
            taken = await service.http.post("/api/generate", headers=origin | ann, json=BODY)

        assert preflight.status_code == 200
        assert "authorization" in preflight.headers["Access-Control-Allow-Headers"].lower()
        assert (refused.status_code, taken.status_code) == (401, 200)
        for response in (preflight, refused, taken):
            assert response.headers["Access-Control-Allow-Origin"] == allowed
            assert "Access-Control-Allow-Credentials" not in response.headers
        assert "RateLimit-Reset" in taken.headers["Access-Control-Expose-Headers"]

    async def test_none_is_allowed_by_default(self, tmp_path):
        async with api_service(tmp_path) as service:
            response = await service.http.get("/api/models", headers={"Origin": "https://good.example"})
        assert not [name for name in response.headers if name.lower().startswith("access-control")]


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
