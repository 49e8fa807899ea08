"""Chromium, the fake service, and a page that must stay free of errors and of foreign requests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from tests.browser.chromium import find_chromium, launch
from tests.browser.fake_service import FakeService

# Long enough for a machine that is busy with other tests.
PATIENCE_MS = 15_000
expect.set_options(timeout=PATIENCE_MS)


# Not wider than a module: Playwright keeps an event loop running, in which no asyncio test could start its own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        reason = "chromium is not installed: install it, or name it in the environment variable CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = launch(playwright, executable)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def running_service() -> Iterator[FakeService]:
    service = FakeService()
    service.start()
    yield service
    service.stop()


@pytest.fixture
def service(running_service: FakeService) -> FakeService:
    running_service.forget()
    return running_service


@pytest.fixture(params=[(1280, 800), (390, 844)], ids=["desktop", "phone"])
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    """Of the window; every test of the page runs in both."""
    width, height = request.param
    return width, height


@pytest.fixture
def context(browser: Browser, service: FakeService, size: tuple[int, int]) -> Iterator[BrowserContext]:
    width, height = size
    context = browser.new_context(base_url=service.url, viewport={"width": width, "height": height})
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


class Watcher:
    """Collects what a page must not do. A test that provokes an error says so in ``expected``."""

    def __init__(self, page: Page, origin: str) -> None:
        self.expected: list[str] = []
        self._errors: list[str] = []
        self._foreign: list[str] = []
        self._origin = origin
        page.on("console", lambda message: self._errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self._errors.append(str(error)))
        page.on("request", self._see)

    def _see(self, request: Request) -> None:
        if not request.url.startswith((self._origin, "data:", "blob:")):
            self._foreign.append(request.url)

    def check(self) -> None:
        surprises = [error for error in self._errors if not any(part in error for part in self.expected)]
        assert surprises == []
        assert self._foreign == []


@pytest.fixture
def watcher(context: BrowserContext, service: FakeService) -> Iterator[Watcher]:
    watcher = Watcher(context.new_page(), service.url)
    yield watcher
    watcher.check()


@pytest.fixture
def page(watcher: Watcher, context: BrowserContext) -> Page:
    page = context.pages[0]
    page.goto("/")
    return page
