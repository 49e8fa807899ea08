"""Who may do what over HTTP: every route with no key, a wrong one, each scope, and another owner's things."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from deployments.jobs.records.api_keys import Scope, make_key
from serve.http.access import Access, is_public
from tests.support.api_service import PROMPT, api_service, sentence
from tests.support.protected_service import BODY, NOBODY, Protected, every_route

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

ROUTES = [(method, route) for route in every_route() for method in sorted(route.methods)]
PROTECTED = [(method, route) for method, route in ROUTES if not is_public(route.path.replace("{name}", "a.js"))]
OWNED = [(method, route) for method, route in PROTECTED if "{job_id}" in route.path or "{image_id}" in route.path]
EVERY_ROUTE, EVERY_PROTECTED_ROUTE, EVERY_OWNED_ROUTE = (
    pytest.mark.parametrize(("method", "route"), routes, ids=[f"{method} {route.path}" for method, route in routes])
    for routes in (ROUTES, PROTECTED, OWNED)
)


def access_of(route: APIRoute) -> list[Access]:
    return [each.call for each in route.dependant.dependencies if isinstance(each.call, Access)]


async def ask(
    protected: Protected, method: str, route: APIRoute, headers: dict[str, str], **ids: str
) -> httpx.Response:
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
    return await protected.service.http.request(method, path, headers=headers, json=body)


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
            response = await ask(protected, method, route, headers)

            assert response.status_code == 401, response.text
            assert response.headers["WWW-Authenticate"].startswith("Bearer ")

    @EVERY_PROTECTED_ROUTE
    async def test_lets_in_those_with_its_scope_only(self, protected, method, route):
        (access,) = access_of(route)
        for scope in Scope:
            headers = await protected.key("ann", scope)
            if route.path in ENDLESS | WAITING and scope in (access.scope, Scope.ADMIN):
                continue
            response = await ask(protected, method, route, headers)

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
        of_another = await ask(protected, method, route, bob, job_id=job_id, image_id=image_id)
        of_nobody = await ask(protected, method, route, bob)

        assert of_another.status_code == of_nobody.status_code == 404, of_another.text
        assert of_another.text.replace(job_id, NOBODY).replace(image_id, NOBODY) == of_nobody.text
        assert (await protected.service.tracker.images.get(image_id)).client == "ann"

    @EVERY_OWNED_ROUTE
    async def test_shows_the_owner_a_new_key_of_the_owner_and_an_admin_what_is_theirs(self, protected, method, route):
        ann, again, boss = await protected.key("ann"), await protected.key("ann"), await protected.key("b", *Scope)
        for headers in (ann, again, boss):
            job_id, image_id = await protected.finished_job(ann)
            answer = await ask(protected, method, route, headers, job_id=job_id, image_id=image_id)

            # 409: a job that has ended cannot be retried or moved; 404: and it has no preview any more.
            expected = {"/api/jobs/{job_id}/preview": 404, "/api/jobs/{job_id}/retry": 409}
            expected["/api/jobs/{job_id}/priority"] = 409
            assert answer.status_code == expected.get(route.path, 200), answer.text

    @pytest.mark.parametrize("path", ["/", "/live", "/health", "/docs", "/openapi.json", "/static/page.js"])
    async def test_that_is_public_needs_no_key_and_minds_no_wrong_one(self, protected, path):
        for headers in ({}, {"Authorization": "Bearer guess"}):
            assert (await protected.service.http.get(path, headers=headers)).status_code == 200

    async def test_shows_where_the_dashboard_is_to_admins_only(self, tmp_path):
        links = {"ray_dashboard": "http://10.0.0.1:8265", "grafana": "http://10.0.0.1:3000"}
        async with api_service(tmp_path, auth={"mode": "keys", "cache_seconds": 0}, links=links) as service:
            protected = Protected(service)
            for scopes in ((Scope.READ,), (Scope.GENERATE, Scope.READ)):
                answer = await service.http.get("/api/service", headers=await protected.key("ann", *scopes))
                assert answer.json()["links"] == dict.fromkeys(links)
            answer = await service.http.get("/api/service", headers=await protected.key("boss", Scope.ADMIN))
            assert answer.json()["links"] == links

    async def test_shows_where_the_dashboard_is_to_everybody_without_keys(self, tmp_path):
        async with api_service(tmp_path, links={"grafana": "http://10.0.0.1:3000"}) as service:
            assert (await service.http.get("/api/service")).json()["links"]["grafana"] == "http://10.0.0.1:3000"

    async def test_that_is_not_there_is_401_too(self, protected):
        assert sentence(await protected.service.http.get("/api/nothing"), 401)
        assert sentence(await protected.service.http.put("/api/generate"), 401)
        assert sentence(await protected.service.http.get("/api/nothing", headers=await protected.key("ann")), 404)


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
