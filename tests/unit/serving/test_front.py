"""What happens to a request before Ray Serve's proxy has it: its id, the proxy's own addresses, slow bodies."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import httpx
import pytest
from ray.serve._private.http_util import _apply_middlewares, validate_http_proxy_callback_return
from ray.serve._private.utils import call_function_from_import_path
from starlette.responses import JSONResponse, PlainTextResponse

from serve.http.front import IMPORT_PATH, Front
from serve.launcher import prepare_environment
from tests.support.api_service import sentence

PIECE = 64 * 1024


async def proxy(scope, receive, send):
    """Stands in for Ray Serve's own; answers what it was asked for, and which ids it saw."""
    ids = [value.decode() for name, value in scope["headers"] if name.lower() == b"x-request-id"]
    headers = [f"{name.decode()}: {value.decode()}" for name, value in scope["headers"]]
    await JSONResponse({"path": scope["path"], "ids": ids, "headers": headers})(scope, receive, send)


@pytest.fixture
async def http():
    app = _apply_middlewares(proxy, validate_http_proxy_callback_return(call_function_from_import_path(IMPORT_PATH)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


class TestRequestIds:
    @pytest.mark.parametrize("given", [["abc"], ["7f1c9e2e-0f5e-4d0c-9c5e-0d6a3c2b1a00"], ["a:b_c.d-e"]])
    async def test_that_are_sane_stay(self, http, given):
        answer = await http.get("/api/models", headers=[("X-Request-ID", each) for each in given])

        assert answer.headers.get_list("X-Request-ID") == answer.json()["ids"] == given

    @pytest.mark.parametrize("given", [[], [""], ["<script>"], ["a b"], ["x" * 129], ["ä"], ["a", "b"], ["a", "<b>"]])
    async def test_others_are_replaced_by_one(self, http, given):
        headers = [("X-Request-ID", each.encode("latin-1")) for each in given]
        answers = [await http.get("/api/models", headers=headers) for _ in range(2)]
        ids = [answer.headers.get_list("X-Request-ID") for answer in answers]

        assert ids == [answer.json()["ids"] for answer in answers]
        assert [len(found) for (found,) in ids] == [36, 36]
        assert ids[0] != ids[1]


class TestOrdersToRay:
    """Without the front Ray's proxy acts on these, and answers 500 to what it cannot decode."""

    @pytest.mark.parametrize("name", ["x-request-timeout-seconds", "x-request-disconnect-disabled"])
    @pytest.mark.parametrize("value", [b"0.001", b"?1", b"\xff"])
    async def test_are_empty_so_that_the_application_refuses_them(self, http, name, value):
        answer = await http.get("/api/models", headers={name: value})
        assert f"{name}: " in answer.json()["headers"]

    @pytest.mark.parametrize(
        "name", ["serve_multiplexed_model_id", "Serve-Multiplexed-Model-Id", "x-session-id", "X_Session_Id"]
    )
    @pytest.mark.parametrize("value", [b"a", b"\xff"])
    async def test_which_choose_a_replica_are_gone(self, http, name, value):
        answer = await http.get("/api/models", headers={name: value, "X-Other": "stays"})
        told = answer.json()["headers"]

        assert "x-other: stays" in told
        assert not [header for header in told if "session" in header or "multiplexed" in header]


class TestAddressesOfTheProxy:
    @pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
    async def test_routes_are_not_shown(self, http, method):
        answer = await http.request(method, "/-/routes", headers={"X-Request-ID": "mine"})

        assert sentence(answer, 404) == "There is nothing at this address."
        assert answer.headers.get_list("X-Request-ID") == ["mine"]

    @pytest.mark.parametrize("path", ["/-/healthz", "/-/routes/", "/api/-/routes"])
    async def test_others_are(self, http, path):
        assert (await http.get(path)).json()["path"] == path

    async def test_routes_are_found_below_a_prefix(self):
        transport = httpx.ASGITransport(Front(proxy), root_path="/images")
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            assert (await http.get("/images/-/routes")).status_code == 404


class Body:
    """Sends a body in pieces; each waits until it is let go."""

    def __init__(self, *pieces: bytes, complete: bool = True) -> None:
        self.messages: asyncio.Queue[dict] = asyncio.Queue()
        for number, piece in enumerate(pieces, 1):
            self.put(piece, more=not complete or number < len(pieces))

    def put(self, piece: bytes, *, more: bool) -> None:
        self.messages.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def leave(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})

    async def pieces(self) -> list[tuple[bytes, bool]]:
        """What the proxy receives, up to the end of the body or the client's leaving."""
        found = []

        async def app(scope, receive, send):
            while (message := await receive())["type"] == "http.request":
                found.append((message["body"], message["more_body"]))
                if not message["more_body"]:
                    break
            await PlainTextResponse("")(scope, receive, send)

        async def send(_):
            pass

        scope = {"type": "http", "method": "POST", "path": "/api/generate", "headers": []}
        await Front(app)(scope, self.messages.get, send)
        return found


class TestBodies:
    async def test_of_single_bytes_are_one_piece(self):
        text = bytes(range(200))
        assert await Body(*(text[n : n + 1] for n in range(200))).pieces() == [(text, False)]

    async def test_of_many_bytes_are_few_pieces(self):
        sizes = [(len(piece), more) for piece, more in await Body(*[b"x" * 1000] * 200).pieces()]
        assert sizes == [(66_000, True)] * 3 + [(2_000, False)]

    @pytest.mark.parametrize("size", [0, 1, PIECE, 10 * PIECE])
    async def test_in_one_piece_stay_so(self, size):
        assert await Body(b"x" * size).pieces() == [(b"x" * size, False)]

    async def test_that_end_with_nothing_end(self):
        assert await Body(b"x" * PIECE, b"").pieces() == [(b"x" * PIECE, True), (b"", False)]
        assert await Body(b"x", b"").pieces() == [(b"x", False)]

    async def test_stop_at_once_when_the_client_leaves(self):
        body = Body(b"a", b"b", complete=False)
        body.leave()
        assert await body.pieces() == []

    async def test_are_not_waited_for_by_a_client_that_has_sent_all(self):
        body, left = Body(b"all"), []

        async def app(scope, receive, send):
            assert (await receive())["body"] == b"all"
            body.leave()
            left.append(await receive())

        await Front(app)({"type": "http", "path": "/", "headers": []}, body.messages.get, None)
        assert left == [{"type": "http.disconnect"}]


def test_the_launcher_names_it_and_leaves_an_operators_own(monkeypatch):
    name = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
    monkeypatch.setenv(name, "mine:callback")
    prepare_environment()
    assert os.environ[name] == "mine:callback"
    monkeypatch.delenv(name)
    prepare_environment()
    assert os.environ[name] == IMPORT_PATH


def test_the_proxys_process_imports_little():
    code = "import sys, serve.http.front; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"PIL", "fastapi", "pydantic", "ray", "torch", "sqlalchemy"} & set(printed)
