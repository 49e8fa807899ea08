"""Where a request comes from and whom it is for: clients behind proxies, pages of other sites, names of the service."""

from __future__ import annotations

import base64

import httpx
import pytest

from deployments.settings.service import SettingsError, load_settings
from tests.support.api_service import api_service, sentence
from tests.support.protected_service import BODY, NOBODY, Protected, every_route

CHANGING = sorted(
    (method, route.path) for route in every_route() for method in route.methods if method not in ("GET", "HEAD")
)
EVIL, LAN = "http://evil.example", "192.168.1.5:8310"


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


class TestPagesOfPlainHttp:
    """A browser sends no Sec-Fetch-Site to an address without TLS that is not its own machine."""

    @pytest.mark.parametrize(("method", "path"), CHANGING)
    async def test_of_other_sites_change_nothing_anywhere(self, service, method, path):
        path = path.replace("{model_id}", "shapes").replace("{model}", "shapes")
        for name in ("job_id", "image_id", "key_id"):
            path = path.replace(f"{{{name}}}", NOBODY)
        for headers in ({"Origin": EVIL}, {"Origin": "null"}, {"Referer": f"{EVIL}/page"}):
            response = await service.http.request(method, path, headers=headers)

            assert response.status_code == 403, (headers, response.text)
            assert "another site's page" in response.text

    async def test_cannot_use_a_key_that_the_browser_remembers(self, protected):
        root = await protected.key("root", "admin")
        key = root["Authorization"].removeprefix("Bearer ")
        remembered = {"Authorization": "Basic " + base64.b64encode(f"any:{key}".encode()).decode()}
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        for path in (path for method, path in CHANGING if method == "POST" and "{" not in path):
            response = await protected.service.http.post(path, headers=remembered | form | {"Origin": EVIL})
            assert response.status_code == 403, path
        assert (await protected.service.http.get("/api/models", headers=remembered)).status_code == 200

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            (f"http://{LAN}", LAN),
            ("http://192.168.1.5", "192.168.1.5"),
            ("http://192.168.1.5", "192.168.1.5:80"),
            ("https://192.168.1.5", "192.168.1.5"),  # TLS ends at a proxy
            ("https://192.168.1.5", "192.168.1.5:443"),
            ("http://[fd00::1]:8310", "[fd00::1]:8310"),
            ("http://localhost:8310", "LOCALHOST.:8310"),
        ],
    )
    @pytest.mark.parametrize("form", ["Origin", "Referer"])
    async def test_of_the_service_itself_do(self, service, origin, host, form):
        sent = {"Host": host, form: origin if form == "Origin" else f"{origin}/queue?x=1#jobs"}
        assert (await service.http.post("/api/generate", headers=sent, json=BODY)).status_code == 200

    @pytest.mark.parametrize(
        "origin",
        [
            "http://192.168.1.5",  # another program at another port
            "http://192.168.1.5:8311",
            f"http://any@{LAN}",
            f"http://{LAN}.evil.example",
            f"http://evil.example/{LAN}",
            f"http://evil.example@{LAN}",
            f"http://evil.example#{LAN}",
            f"ftp://{LAN}",
            LAN,
            "http://[::1",
            "file://",
            "",
        ],
    )
    async def test_of_what_is_nearly_the_service_do_not(self, service, origin):
        for form in ("Origin", "Referer"):
            sent = {"Host": LAN, form: origin}
            response = await service.http.post("/api/generate", headers=sent, json=BODY)
            assert sentence(response, 403).startswith("The request comes from another site's page")

    async def test_the_origin_decides_and_not_the_referrer(self, service):
        sent = {"Host": LAN, "Origin": EVIL, "Referer": f"http://{LAN}/"}
        assert (await service.http.post("/api/generate", headers=sent, json=BODY)).status_code == 403

    @pytest.mark.parametrize("headers", [{"Origin": "https://good.example"}, {"Referer": "https://good.example/a/b"}])
    async def test_of_allowed_sites_do(self, tmp_path, headers):
        async with api_service(tmp_path, cors={"allowed_origins": ["https://good.example"]}) as service:
            assert (await service.http.post("/api/generate", headers=headers, json=BODY)).status_code == 200
            other = {name: value.replace("good", "evil") for name, value in headers.items()}
            assert (await service.http.post("/api/generate", headers=other, json=BODY)).status_code == 403

    @pytest.mark.parametrize("trusted", [True, False])
    async def test_behind_a_proxy(self, tmp_path, trusted):
        page = {"Origin": "http://images.example.com", "X-Forwarded-Host": "images.example.com"}
        settings = {"trusted_proxies": ["10.1.2.3"] if trusted else [], "allowed_hosts": ["images.example.com"]}
        async with api_service(tmp_path, **settings) as service:
            replaced = await service.http.post("/api/generate", headers=page | {"Host": "10.9.9.9:8000"}, json=BODY)
            passed_on = await service.http.post(
                "/api/generate", headers={"Origin": page["Origin"], "Host": "images.example.com"}, json=BODY
            )

        assert replaced.status_code == (200 if trusted else 403)
        assert passed_on.status_code == 200

    async def test_are_not_asked_where_they_only_look(self, service):
        for method in ("GET", "HEAD"):
            assert (await service.http.request(method, "/", headers={"Origin": EVIL})).status_code == 200


GOOD_HOSTS = [
    "127.0.0.1",
    "127.0.0.1:8310",
    "192.168.1.5:8310",
    "8.8.8.8",
    "[::1]",
    "[::1]:8310",
    "[fd00::1]",
    "[::FFFF:127.0.0.1]:80",
    "localhost",
    "localhost:8310",
    "LocalHost",
    "localhost.",
    "localhost.:8310",
    "a.localhost:8310",
    "images.example.com",
    "IMAGES.example.com.:443",
    "a.b.lan",
]
BAD_HOSTS = [
    "evil.example",
    "evil.example:8310",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evillocalhost",
    "localhost.lan.evil",
    "lan",
    "evil-lan",
    "b.images.example.com",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "127.1",
    "127.0.0.01",
    "[::1]evil",
    "[::1]:80.evil.example",
    "[127.0.0.1]",
    "::1",
    "[::1",
    "[]",
    "any@127.0.0.1",
    "127.0.0.1@evil.example",
    "127.0.0.1:80@evil.example",
    "localhost:evil",
    "localhost:123456",
    "localhost..",
    ".localhost",
    "localhost/evil.example",
    "localhost, evil.example",
    "localhost\x00.evil.example",
    "löcalhost",
    ".",
    ":8310",
    "",
]
HOSTS = {"allowed_hosts": ["Images.Example.com", "*.lan"]}


class TestHosts:
    """A page whose name is made to mean this machine (DNS rebinding) sends that name as Host."""

    @pytest.mark.parametrize("host", GOOD_HOSTS)
    async def test_of_the_service_are_answered(self, tmp_path, host):
        async with api_service(tmp_path, **HOSTS) as service:
            assert (await service.http.get("/api/models", headers={"Host": host})).status_code == 200

    @pytest.mark.parametrize("host", BAD_HOSTS)
    async def test_others_are_refused(self, tmp_path, host):
        async with api_service(tmp_path, **HOSTS) as service:
            response = await service.http.get("/api/models", headers={"Host": host.encode("latin-1")})

        assert "allowed_hosts (CYBERIMAGE_ALLOWED_HOSTS)" in sentence(response, 403)

    async def test_are_checked_for_every_method_and_path(self, service):
        rebound = {"Host": "evil.example:8310", "Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example:8310"}
        paths = {"/", "/live", "/health", "/docs", "/openapi.json", "/static/page.js", "/none", "/v1/models"}
        paths |= {route.path.replace("{", "").replace("}", "") for route in every_route()}
        for path in paths:
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
                response = await service.http.request(method, path, headers=rebound)
                assert response.status_code == 403, (method, path)
                assert method == "HEAD" or "evil.example:8310" in response.text
        assert (await service.tracker.counts.by_state()).total == 0

    async def test_have_their_error_in_each_dialect(self, service):
        rebound = {"Host": "evil.example"}
        native = sentence(await service.http.get("/", headers=rebound), 403)
        openai = (await service.http.get("/v1/models", headers=rebound)).json()["error"]

        assert native.startswith("Host: 'evil.example' is no name of this service")
        assert (openai["code"], openai["param"], openai["message"]) == ("unknown_host", "Host", native)

    async def test_a_program_may_send_none(self, service):
        async def app(scope, receive, send):
            assert dict(scope["headers"]).pop(b"host")
            headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
            await service.app({**scope, "headers": headers}, receive, send)

        transport = httpx.ASGITransport(app, client=("10.1.2.3", 4567))
        async with httpx.AsyncClient(transport=transport, base_url="http://evil.example") as http:
            assert (await http.get("/live")).status_code == 200

    async def test_two_are_both_checked(self, service):
        headers = [("Host", "localhost"), ("Host", "evil.example")]
        assert (await service.http.get("/live", headers=headers)).status_code == 403

    @pytest.mark.parametrize(("trusted", "status"), [(["10.1.2.3"], 403), ([], 200)])
    async def test_a_page_cannot_hide_behind_what_only_a_trusted_proxy_may_say(self, tmp_path, trusted, status):
        async with api_service(tmp_path, trusted_proxies=trusted) as service:
            hidden = {"Host": "evil.example", "X-Forwarded-Host": "localhost"}
            assert (await service.http.get("/live", headers=hidden)).status_code == 403
            named = {"Host": "127.0.0.1:8000", "X-Forwarded-Host": "localhost, evil.example"}
            assert (await service.http.get("/live", headers=named)).status_code == status
            empty = {"Host": "127.0.0.1:8000", "X-Forwarded-Host": ""}
            assert (await service.http.get("/live", headers=empty)).status_code == 200

    async def test_every_one_may_be_allowed(self, tmp_path):
        async with api_service(tmp_path, allowed_hosts=["*"]) as service:
            assert (await service.http.get("/live", headers={"Host": "any.example"})).status_code == 200

    async def test_do_not_matter_where_keys_are_asked_for(self, protected):
        ann = await protected.key("ann")
        answer = await protected.service.http.get("/api/models", headers=ann | {"Host": "any.example"})
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "name", ["http://a.example", "a.example:80", "a.*", "*a.example", "", "*.", "a b", "[::1]"]
    )
    def test_settings_that_are_no_names_are_told(self, name):
        with pytest.raises(SettingsError, match=r"allowed_hosts.*is no host name such as images\.example\.com"):
            load_settings({"allowed_hosts": [name]})
