"""What every answer has in common, and what happens when something behind the edge is down."""

from __future__ import annotations

import logging

import pytest

from deployments.storage.base import StorageError
from deployments.tracker.remote import TrackerUnavailableError
from tests.support.api_service import CPU_CATALOG, PROMPT, api_service, sentence
from tests.support.job_trackers import raising

ROUTES = [
    ("GET", "/api/queue"),
    ("GET", "/api/queue?detailed=true"),
    ("POST", "/api/generate"),
    ("GET", "/api/status/00000000-0000-4000-8000-000000000000"),
    ("DELETE", "/api/jobs/00000000-0000-4000-8000-000000000000"),
    ("GET", "/api/image/00000000-0000-4000-8000-000000000000"),
    ("GET", "/api/image/00000000-0000-4000-8000-000000000000/metadata"),
    ("DELETE", "/api/image/00000000-0000-4000-8000-000000000000"),
]
EVERY_ROUTE = pytest.mark.parametrize(("method", "path"), ROUTES)
DATABASE_DOWN = "The job database cannot be used; the server's log says why."


class Raising:
    """Stands in for a storage of which every method raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name):
        async def call(*_args, **_kwargs):
            raise self.error

        return call


async def ask(service, method, path):
    body = {"model_id": "shapes", "prompt": PROMPT} if method == "POST" else None
    return await service.http.request(method, path, json=body)


def break_database(folder):
    (folder / "cyberimage.db").write_bytes(b"not a database" * 1000)


class TestHeaders:
    @pytest.mark.parametrize("request_id", ["abc", "7f1c9e2e-0f5e-4d0c-9c5e-0d6a3c2b1a00", "a:b_c.d-e", "x" * 128])
    async def test_a_sane_request_id_comes_back(self, service, request_id):
        response = await service.http.get("/api/models", headers={"X-Request-ID": request_id})

        assert response.headers["X-Request-ID"] == request_id

    @pytest.mark.parametrize("request_id", ["", "x" * 129, "a b", "<script>", 'a"b', "ä"])
    async def test_another_one_is_replaced(self, service, request_id):
        headers = {"X-Request-ID": request_id.encode("latin-1")}
        responses = [await service.http.get("/api/models", headers=headers) for _ in range(2)]

        ids = {response.headers["X-Request-ID"] for response in responses}
        assert len(ids) == 2
        assert {len(found) for found in ids} == {36}

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/api/models"),
            ("GET", "/"),
            ("GET", "/docs"),
            ("GET", "/none"),
            ("PUT", "/health"),
            ("POST", "/api/generate"),
        ],
    )
    async def test_every_answer_has_the_security_headers(self, service, method, path):
        headers = (await service.http.request(method, path)).headers

        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Frame-Options"] == "DENY"
        assert "default-src" in headers["Content-Security-Policy"]
        assert headers["X-Request-ID"]

    async def test_what_is_no_page_may_load_nothing(self, service):
        headers = (await service.http.get("/api/models")).headers

        assert headers["Content-Security-Policy"].startswith("default-src 'none'")


class TestHealth:
    async def test_healthy(self, service):
        response = await service.http.get("/health")

        assert response.status_code == 200
        works = {"database": "ok", "tracker": "ok", "storage": "ok", "models": "ok"}
        assert response.json() == {"status": "healthy"} | works
        assert (await service.http.head("/health")).status_code == 200

    async def test_tracker_down(self, tmp_path):
        async with api_service(tmp_path, tracker=raising(TrackerUnavailableError())) as service:
            response = await service.http.get("/health")

        down = "The job tracker does not answer; it is being restarted."
        assert response.status_code == 503
        assert response.json() == {
            "status": "unhealthy",
            "database": down,
            "tracker": down,
            "storage": "ok",
            "models": down,
        }

    async def test_database_broken_tells_the_place_to_the_log_only(self, tmp_path, caplog):
        break_database(tmp_path)
        async with api_service(tmp_path) as service:
            response = await service.http.get("/health")

        assert response.status_code == 503
        assert response.json() == {
            "status": "unhealthy",
            "database": DATABASE_DOWN,
            "tracker": "ok",
            "storage": "ok",
            "models": "ok",
        }
        assert str(tmp_path) in caplog.text

    async def test_storage_broken(self, tmp_path):
        storage = Raising(StorageError("Could not read the image: the disk failed."))
        async with api_service(tmp_path, storage=storage) as service:
            response = await service.http.get("/health")

        assert response.status_code == 503
        assert response.json()["storage"] == "Could not read the image: the disk failed."
        assert response.json()["tracker"] == "ok"

    async def test_a_model_that_could_not_be_loaded_leaves_the_service_at_work(self, service):
        reason = "shapes could not be loaded: there is no such folder or file."
        await service.tracker.announce_model("shapes", CPU_CATALOG.get("shapes").fingerprint, reason, "replica")
        response = await service.http.get("/health")

        assert response.status_code == 200
        assert response.json() == {
            "status": "degraded",
            "database": "ok",
            "tracker": "ok",
            "storage": "ok",
            "models": f"shapes: {reason}",
        }


@EVERY_ROUTE
class TestSomethingIsDown:
    async def test_the_tracker(self, tmp_path, method, path):
        async with api_service(tmp_path, tracker=raising(TrackerUnavailableError())) as service:
            response = await ask(service, method, path)

        assert sentence(response, 503) == "The job tracker does not answer; it is being restarted."

    async def test_the_database(self, tmp_path, method, path, caplog):
        break_database(tmp_path)
        async with api_service(tmp_path) as service:
            response = await ask(service, method, path)

        assert sentence(response, 503) == DATABASE_DOWN
        assert str(tmp_path) in caplog.text

    async def test_what_nobody_expected(self, tmp_path, method, path, caplog):
        async with api_service(tmp_path, tracker=raising(KeyError("secret"))) as service:
            service.http.headers["X-Request-ID"] = "the-request"
            response = await ask(service, method, path)

        message = sentence(response, 500)
        assert message == "Something went wrong on the server; its log has the details of request the-request."
        assert response.headers["X-Request-ID"] == "the-request"
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert "request the-request" in record.getMessage()
        assert "KeyError: 'secret'" in caplog.text


async def test_an_unexpected_error_in_health_is_500(tmp_path):
    async with api_service(tmp_path, tracker=raising(RuntimeError())) as service:
        assert sentence(await service.http.get("/health"), 500)


async def test_an_error_after_the_answer_has_begun_breaks_the_connection(service):
    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("half way")

    service.app.mount("/broken", broken)

    with pytest.raises(RuntimeError, match="half way"):
        await service.http.get("/broken/")


class TestPage:
    @pytest.mark.parametrize("path", ["/", "/static/page.js", "/static/page.css", "/docs/swagger-ui.css"])
    async def test_a_browser_asks_each_time_and_is_told_that_nothing_changed(self, service, path):
        first = await service.http.get(path)
        again = await service.http.get(path, headers={"If-None-Match": first.headers["ETag"]})

        assert first.status_code == 200
        assert (again.status_code, again.content) == (304, b"")
        for response in (first, again):
            assert response.headers["Cache-Control"] == "no-cache"
            assert response.headers["ETag"] == first.headers["ETag"]

    async def test_head(self, service):
        response = await service.http.head("/")

        assert (response.status_code, response.content) == (200, b"")

    async def test_the_page_may_load_its_own_files_only(self, service):
        response = await service.http.get("/")

        assert response.headers["Content-Type"].startswith("text/html")
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
