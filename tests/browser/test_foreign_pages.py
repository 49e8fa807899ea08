"""What Chromium sends for pages of other sites, over plain HTTP under a name, and what the real application answers.

A browser trusts no plain HTTP but that of its own machine: it sends no Sec-Fetch-Site to ``lan.example`` here.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from starlette.datastructures import Headers

from tests.browser.chromium import find_chromium, launch
from tests.browser.conftest import PATIENCE_MS
from tests.support.api_service import api_service
from tests.support.ports import free_port

NAMES = "--host-resolver-rules=MAP lan.example 127.0.0.1, MAP evil.example 127.0.0.1"
FORM = (
    """<form method="post" action="{url}" enctype="text/plain"><input name="a" value="b"><button>Go</button></form>"""
)
ASK = """([url, mode]) => fetch(url, {method: "POST", mode, headers: {"Content-Type": "text/plain"}, body: "{}"})
  .then((answer) => answer.status).catch(() => "refused")"""


@dataclass
class Application:
    """The application in a thread of its own; remembers which changes were asked for, and its answers."""

    folder: Path
    port: int = field(default_factory=free_port)
    asked: list[tuple[str, str | None, str | None, int]] = field(default_factory=list)

    def start(self) -> None:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._ready = threading.Event()
        self._thread.start()
        assert self._ready.wait(PATIENCE_MS / 1000)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _serve(self) -> None:
        async with api_service(self.folder, allowed_hosts=["lan.example"]) as service:
            self._app = service.app
            config = uvicorn.Config(self._note, log_level="error", lifespan="off", interface="asgi3")
            self._server = uvicorn.Server(config)
            with socket.create_server(("127.0.0.1", self.port)) as here:
                self._ready.set()
                await self._server.serve(sockets=[here])

    async def _note(self, scope: Any, receive: Any, send: Any) -> None:
        headers = Headers(scope=scope)

        async def send_and_note(message: Any) -> None:
            if message["type"] == "http.response.start" and scope["method"] == "POST":
                seen = scope["path"], headers.get("origin"), headers.get("sec-fetch-site"), message["status"]
                self.asked.append(seen)
            await send(message)

        await self._app(scope, receive, send_and_note)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    application = Application(tmp_path_factory.mktemp("application"))
    application.start()
    yield application
    application.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("chromium is not installed: install it, or name it in the environment variable CHROMIUM")
    with sync_playwright() as playwright:
        browser = launch(playwright, executable, NAMES, "--disable-features=LocalNetworkAccessChecks")
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser, application: Application) -> Iterator[BrowserContext]:
    application.asked.clear()
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def test_the_services_own_page_works_over_plain_http(page: Page, application: Application) -> None:
    here = f"http://lan.example:{application.port}"
    page.goto(here)
    with page.expect_response("**/api/generate") as submitted:
        page.get_by_role("button", name="Make your first picture").click()

    assert submitted.value.status == 200
    assert ("/api/generate", here, None, 200) in application.asked


@pytest.mark.parametrize("name", ["lan.example", "127.0.0.1", "localhost"])
def test_a_foreign_page_changes_nothing(page: Page, application: Application, name: str) -> None:
    url = f"http://{name}:{application.port}/api/queue/shapes/pause"
    evil = f"http://evil.example:{free_port()}"
    page.route(f"{evil}/**", lambda route: route.fulfill(body=FORM.format(url=url), content_type="text/html"))
    page.goto(f"{evil}/")
    page.evaluate(ASK, [url, "no-cors"])
    with page.expect_navigation():
        page.get_by_role("button", name="Go").click()

    assert [status for *_, status in application.asked] == [403, 403]
    assert {origin for _, origin, _, _ in application.asked} <= {evil, "null"}
    if name == "lan.example":
        assert {site for _, _, site, _ in application.asked} == {None}


def test_a_page_whose_name_means_this_machine_is_refused(page: Page, application: Application) -> None:
    here = f"http://evil.example:{application.port}"
    page.route(f"{here}/", lambda route: route.fulfill(body="first from elsewhere", content_type="text/html"))
    page.goto(f"{here}/")
    assert page.evaluate("() => fetch('/api/models').then((answer) => answer.status)") == 403
    assert page.evaluate(ASK, [f"{here}/api/queue/shapes/pause", "cors"]) == 403
    page.goto(f"{here}/docs")
    expect(page.locator("body")).to_contain_text("CYBERIMAGE_ALLOWED_HOSTS")
