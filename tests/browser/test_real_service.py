"""The page and the whole service: the first visit, two tabs, a slow network, and a restart in the middle of a job."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, expect

from tests.browser.conftest import Watcher
from tests.browser.gestures import submit
from tests.support.ports import free_port
from tests.support.service import WAIT_SECONDS
from tests.support.service_process import ServiceProcess, serving

SOON = WAIT_SECONDS * 1000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with serving(tmp_path_factory.mktemp("data"), free_port()) as process:
        process.wait_for_announcement()
        yield process


@pytest.fixture
def context(browser: Browser, running: ServiceProcess) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=running.service.url, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(SOON)
    yield context
    context.close()


@pytest.fixture
def watcher(context: BrowserContext, running: ServiceProcess) -> Iterator[Watcher]:
    watcher = Watcher(context.new_page(), running.service.url)
    yield watcher
    watcher.check()


def expect_pictures(card: Locator, count: int) -> None:
    """Waits until a card shows its pictures, whole."""
    expect(card).to_have_attribute("data-state", "completed", timeout=SOON)
    expect(card.locator("figure img")).to_have_count(count)
    for picture in card.locator("figure img").all():
        card.page.wait_for_function("picture => picture.naturalWidth === 64", arg=picture.element_handle())


def test_first_visit_to_first_picture_is_one_click(context: BrowserContext, watcher: Watcher) -> None:
    page = context.pages[0]
    page.goto("/")
    page.get_by_role("button", name="Make your first picture").click()
    expect_pictures(page.locator(".job"), 1)
    expect(page.locator("#prompt-count")).to_have_text("10 / 40 tokens")
    page.locator("[data-view=queue]").click()
    expect(page.locator(".model-list .numbers")).to_contain_text("1 copy")
    expect(page.get_by_role("link", name="Ray dashboard")).to_be_visible()
    expect(page.locator(".model-list .numbers")).to_contain_text("images/min")


def test_slow_network_is_only_slow(context: BrowserContext, watcher: Watcher) -> None:
    page = context.pages[0]
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 300, "downloadThroughput": 50_000, "uploadThroughput": 20_000}
    network.send("Network.emulateNetworkConditions", slow)
    page.goto("/")
    expect_pictures(submit(page), 1)


def test_restart_in_the_middle_of_a_job_is_nothing_to_do_for_the_person(
    context: BrowserContext, watcher: Watcher, running: ServiceProcess
) -> None:
    watcher.expected += ["net::ERR", "404", "503"]
    page, other = context.pages[0], context.new_page()
    for tab in (page, other):
        tab.goto("/")
    expect(page.locator("#generate")).to_be_enabled()
    page.locator("#steps").fill("100")
    page.fill("#num-images", "4")
    card = submit(page)
    expect(card.locator(".state")).to_contain_text("step", timeout=SOON)
    expect(other.locator(".job .state")).to_contain_text("step", timeout=SOON)
    running.restart()
    for tab in (page, other):
        expect(tab.locator(".job")).not_to_have_attribute("data-state", "failed")
        expect_pictures(tab.locator(".job"), 4)
        expect(tab.locator("#connection")).to_be_hidden()
