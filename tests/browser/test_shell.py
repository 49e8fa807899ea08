"""What holds for all views: the address, themes, keys, what everybody can read, and that nothing but text is text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from serve.http.page import WEB_FOLDER
from tests.browser.conftest import Watcher
from tests.browser.fake_service import FakeService
from tests.browser.gestures import overflow, show, submit

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text("utf-8")
MARKUP = "<img src=x onerror=\"document.title='owned'\">"


def serious_violations(page: Page) -> list[str]:
    """What axe-core finds that keeps people out, with the element."""
    page.evaluate(AXE)
    found: list[dict[str, Any]] = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{each['id']}: {node['html']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def fill(service: FakeService) -> None:
    """Something for every view to show."""
    for number in range(6):
        service.add_image(f"number {number}")
    service.images[0] |= {"favourite": True, "tags": ["night"]}
    for prompt in ("it waits", "it failed"):
        body = {"model_id": "shapes", "prompt": prompt, "settings": {"num_inference_steps": 20}}
        job = service.submit(body, prompt)
    service.fail(job, "Out of GPU memory; try a smaller size.")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", ["generate", "gallery", "queue", "viewer", "help", "painter"])
def test_axe_finds_nothing_serious(page: Page, service: FakeService, view: str, theme: str) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    fill(service)
    if view == "viewer":
        show(page, "gallery")
        page.locator(".tile a").first.click()
        expect(page.locator(".viewer .facts")).to_contain_text("Negative prompt")
    elif view == "help":
        page.click("#show-help")
    elif view == "painter":
        page.goto(f"/#gallery/{service.images[0]['id']}")
        page.get_by_role("button", name="Start from it").click()
        page.click("#start-mask")
        expect(page.locator("dialog.painter")).to_be_visible()
    else:
        show(page, view)
    if view == "gallery":
        expect(page.locator(".tile")).to_have_count(len(service.images))
    elif view == "queue":
        expect(page.locator(".job-row")).to_have_count(len(service.jobs))
    elif view == "generate":
        extras = {"loras": ["ink"], "max_loras": 1, "control_tasks": ["text2image"]}
        service.models["shapes"] |= extras
        page.reload()
        page.locator("#more summary").click()
        page.get_by_label("ink", exact=True).check()
        page.locator("#negative summary").click()
        card = submit(page)
        service.complete(service.newest)
        expect(card.locator("figure img")).to_be_visible()
    assert serious_violations(page) == []
    assert overflow(page) == 0


def test_address_names_the_view(page: Page) -> None:
    show(page, "gallery")
    assert page.url.endswith("#gallery")
    assert page.title() == "Gallery · CyberImage"
    expect(page.locator("[data-view=gallery]")).to_have_attribute("aria-current", "page")
    page.reload()
    expect(page.locator("#view-gallery")).to_be_visible()
    expect(page.locator("#view-generate")).to_be_hidden()
    page.go_back()
    expect(page.locator("#view-generate")).to_be_visible()


def test_theme_is_chosen_and_remembered(page: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.click("#theme")
    assert page.evaluate(background) != light
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.click("#theme")
    page.click("#theme")
    expect(page.locator("#theme-name")).to_have_text("Theme: as the system")
    assert page.evaluate(background) == light


def test_question_mark_lists_the_keys(page: Page) -> None:
    page.locator("#prompt").press("?")
    expect(page.locator("#help")).to_have_count(0)
    page.locator("#show-help").focus()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("Copy the prompt")
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_have_count(0)


def test_page_works_behind_a_key(page: Page, service: FakeService, watcher: Watcher) -> None:
    watcher.expected.append("401")
    service.add_image("red circle")
    service.key = "ci_secret"
    page.reload()
    expect(page.locator("#api-key")).to_be_visible()
    page.fill("#api-key", "ci_secret")
    page.press("#api-key", "Tab")
    card = submit(page)
    service.step(service.newest, 5)
    expect(card.locator(".state")).to_contain_text("step 5 of 20")
    service.complete(service.newest)
    picture = card.locator("figure img")
    page.wait_for_function("picture => picture.naturalWidth === 64", arg=picture.element_handle())
    assert str(picture.get_attribute("src")).startswith("blob:")
    with page.expect_download() as download:
        card.locator("[data-action=download]").click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
    show(page, "gallery")
    expect(page.locator(".tile")).to_have_count(2)
    thumbnail = page.locator(".tile img").first
    page.wait_for_function("picture => picture.naturalWidth === 64", arg=thumbnail.element_handle())
    page.reload()
    expect(page.locator(".tile")).to_have_count(2)


def test_words_of_people_are_text_only(page: Page, service: FakeService) -> None:
    made = service.add_image(MARKUP)
    made["tags"] = [MARKUP]
    made["model_id"] = MARKUP
    service.models["shapes"] |= {"description": MARKUP, "reason": MARKUP, "state": "unavailable"}
    job = service.submit({"model_id": "shapes", "prompt": MARKUP, "settings": {"num_inference_steps": 20}}, "key")
    service.fail(job, MARKUP)
    page.reload()
    expect(page.locator("#model-description")).to_have_text(MARKUP)
    show(page, "gallery")
    page.locator(".tile a").click()
    expect(page.locator(".viewer-prompt")).to_have_text(MARKUP)
    expect(page.locator(".tags span")).to_have_text(MARKUP)
    page.keyboard.press("Escape")
    page.locator(".tile input").check(force=True)
    show(page, "queue")
    expect(page.locator(".job-prompt")).to_have_text(MARKUP)
    expect(page.locator(".reason")).to_have_text(MARKUP)
    assert page.title() == "Queue · CyberImage"
    assert page.locator("[onerror]").count() == 0


def test_policy_lets_no_script_in(page: Page, watcher: Watcher) -> None:
    watcher.expected.append("Content Security Policy")
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "document.title = 'owned'";
        document.body.append(script);
    }""")
    assert page.title() == "CyberImage"


def test_every_control_can_be_reached_by_tab(page: Page) -> None:
    expect(page.locator("#generate")).to_be_enabled()
    seen = set()
    for _ in range(45):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id"))
    assert {"prompt", "enrich", "model", "start-file", "steps", "guidance", "seed", "lock", "dice", "generate"} <= seen


def test_two_tabs_show_the_same_jobs(page: Page, service: FakeService) -> None:
    other = page.context.new_page()
    other.goto("/")
    submit(page)
    expect(other.locator(".job")).to_have_count(1)
    service.complete(service.newest)
    expect(other.locator(".job img")).to_be_visible()
    expect(page.locator(".job img")).to_be_visible()
    assert len(service.requests) == 1


def test_slow_network_delays_nothing_that_is_typed(page: Page, service: FakeService) -> None:
    page.route("**/api/models", lambda route: None)
    page.reload()
    page.fill("#prompt", "typed before the models are known")
    expect(page.locator("#generate")).to_be_disabled()
    page.unroute_all(behavior="ignoreErrors")
    page.reload()
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#prompt")).to_have_value("typed before the models are known")


def test_without_storage_the_page_still_works(browser: Browser, service: FakeService) -> None:
    page = browser.new_page(base_url=service.url)
    page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('forbidden'); }})")
    page.goto("/")
    card = submit(page)
    service.complete(service.newest)
    expect(card.locator("img")).to_be_visible()
    page.close()


def test_generate_page_is_light(page: Page) -> None:
    expect(page.locator("#generate")).to_be_enabled()
    transferred = page.evaluate("""() => [performance.getEntriesByType("navigation")[0],
        ...performance.getEntriesByType("resource")].reduce((sum, { transferSize }) => sum + transferSize, 0)""")
    assert 0 < transferred < 150_000


def test_modules_are_fetched_at_once() -> None:
    """Else each would be asked for only when the one that imports it is there."""
    page = (WEB_FOLDER / "index.html").read_text("utf-8")
    named = set(re.findall(r'(?:modulepreload" href|script src|module" src)="static/([^"]+\.js)"', page))
    assert named == {file.name for file in WEB_FOLDER.glob("*.js")}


def test_page_names_no_other_origin() -> None:
    """Not even one that nobody asks: a link of a library's documentation would be followed by nobody."""
    text = "".join(file.read_text("utf-8") for file in sorted(WEB_FOLDER.iterdir()))
    assert set(re.findall(r"https?://[^\s\"'`)]+", text)) == {"http://www.w3.org/2000/svg"}
