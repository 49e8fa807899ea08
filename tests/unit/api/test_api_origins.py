"""Where a request comes from: clients behind proxies, and pages of other sites."""

from __future__ import annotations

import pytest

from tests.support.api_service import api_service, sentence
from tests.support.protected_service import BODY, NOBODY, Protected


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
