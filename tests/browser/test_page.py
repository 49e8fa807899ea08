"""The page, driven by a real browser."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Watcher
from tests.browser.fake_models import PREVIEW_SIZE, draw
from tests.browser.fake_service import FakeService
from tests.browser.gestures import PROMPT, overflow, remember, submit

PREVIEW = f"data:image/png;base64,{base64.b64encode(draw(PREVIEW_SIZE)).decode()}"


def test_prompt_becomes_a_picture(page: Page, service: FakeService) -> None:
    card = submit(page)
    expect(card).to_have_attribute("data-state", "pending")
    expect(card.locator(".state")).to_contain_text("position 1")
    service.step(service.newest, 5)
    expect(card.locator(".state")).to_contain_text("step 5 of 20")
    assert card.locator("progress").evaluate("bar => bar.value / bar.max") == 0.25
    service.preview(service.newest, PREVIEW)
    preview = card.locator("img.preview")
    expect(preview).to_be_visible()
    assert preview.evaluate("picture => picture.naturalWidth") == 8
    service.complete(service.newest)
    expect(preview).to_have_count(0)
    picture = card.locator("img")
    expect(picture).to_be_visible()
    page.wait_for_function("picture => picture.naturalWidth === 64", arg=picture.element_handle())
    assert picture.bounding_box()["width"] > 200
    expect(card.locator(".facts")).to_contain_text(re.compile("Size64 . 64"))
    expect(page.locator("#announcement")).to_have_text("A picture is ready")


def test_a_job_tells_how_far_its_model_is_loaded(page: Page, service: FakeService) -> None:
    card = submit(page)
    service.load(service.newest, 3.4, None)
    expect(card.locator(".state")).to_have_text("Loading the model for 3 s")
    service.load(service.newest, 9.5, 19.0)
    expect(card.locator(".state")).to_have_text("Loading the model for 9 s, usually 19 s")
    assert card.locator("progress").evaluate("bar => bar.value / bar.max") == 0.5
    service.step(service.newest, 5)
    expect(card.locator(".state")).to_contain_text("Generating, step 5 of 20")


def test_seed_keeps_all_its_digits(page: Page, service: FakeService) -> None:
    card = submit(page)
    service.complete(service.newest)
    expect(card.locator(".seed")).to_have_text("seed 9007199254740993")
    card.locator("figure [data-action=reuse]").click()
    expect(page.locator("#seed")).to_have_value("9007199254740993")
    page.click("#generate")
    expect(page.locator(".job")).to_have_count(2)
    expect(page.locator(".job").first).to_have_attribute("data-state", "pending")
    assert service.requests[-1]["settings"]["seed"] == 9007199254740993


def test_several_pictures_have_their_own_seed_and_download(page: Page, service: FakeService) -> None:
    page.fill("#seed", "41")
    page.fill("#num-images", "2")
    card = submit(page)
    expect(card.locator(".pictures > .frame")).to_have_count(2)
    service.complete(service.newest)
    expect(card.locator(".seed")).to_have_text(["seed 41", "seed 42"])
    with page.expect_download() as download:
        card.locator("[data-action=download]").last.click()
    assert download.value.suggested_filename == "cyberimage-42.png"


def test_settings_of_a_job_return_to_the_form(page: Page, service: FakeService) -> None:
    page.locator("#negative summary").click()
    page.fill("#negative-prompt", "a square")
    page.locator("#guidance").fill("6")
    page.locator("#steps").fill("12")
    card = submit(page)
    service.complete(service.newest)
    page.fill("#prompt", "something else")
    page.fill("#negative-prompt", "")
    page.locator("#guidance").fill("2")
    page.locator("#steps").fill("30")
    card.locator("figure [data-action=reuse]").click()
    expect(page.locator("#prompt")).to_have_value(PROMPT)
    expect(page.locator("#negative-prompt")).to_have_value("a square")
    expect(page.locator("#guidance")).to_have_value("6")
    expect(page.locator("#steps")).to_have_value("12")
    expect(page.locator("#prompt")).to_be_focused()


def test_fixed_steps_disable_the_slider(page: Page, service: FakeService) -> None:
    page.select_option("#model", "sprint")
    expect(page.locator("#steps")).to_be_disabled()
    expect(page.locator("#steps")).to_have_value("2")
    expect(page.locator("#steps-value")).to_have_text("2 (fixed)")
    expect(page.locator("#guidance")).to_be_disabled()
    expect(page.locator("#model-description")).to_have_text("Two steps, always.")
    expect(page.locator("#examples")).to_be_hidden()
    submit(page)
    assert service.requests[-1] == {
        "model_id": "sprint",
        "prompt": PROMPT,
        "settings": {
            "num_images": 1,
            "num_inference_steps": 2,
            "guidance_scale": 4.5,
            "width": 1024,
            "height": 768,
        },
    }


def test_too_many_pixels_are_stopped_in_the_form(page: Page, service: FakeService) -> None:
    page.select_option("#model", "sprint")
    page.fill("#width", "1536")
    page.fill("#height", "1536")
    page.fill("#prompt", PROMPT)
    page.click("#generate")
    assert "1,048,576" in page.locator("#height").evaluate("input => input.validationMessage")
    assert service.requests == []


@pytest.mark.parametrize(("stored", "shown"), [("12", "12"), ("900", "20"), ("3", "20"), ("nonsense", "20")])
def test_stored_steps_count_only_within_the_range(page: Page, stored: str, shown: str) -> None:
    remember(page, lastStepsValue=stored)
    page.reload()
    expect(page.locator("#steps-value")).to_have_text(shown)
    assert page.evaluate("localStorage.getItem('lastStepsValue')") == shown


def test_model_and_fields_are_remembered(page: Page) -> None:
    page.select_option("#model", "sprint")
    page.fill("#width", "512")
    page.fill("#prompt", "a prompt half writ")
    page.reload()
    expect(page.locator("#model")).to_have_value("sprint")
    expect(page.locator("#width")).to_have_value("512")
    expect(page.locator("#prompt")).to_have_value("a prompt half writ")
    page.select_option("#model", "shapes")
    page.select_option("#model", "sprint")
    expect(page.locator("#width")).to_have_value("1024")


def test_settings_entered_before_the_models_are_known_stay(page: Page) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/models", hold)
    page.add_init_script("localStorage.clear()")  # as on the first visit
    with page.expect_request("**/api/models"):
        page.reload()
    page.locator("#guidance").fill("6")
    page.locator("#steps").fill("12")
    expect(page.locator("#generate")).to_be_disabled()
    for route in held:
        route.continue_()
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#guidance")).to_have_value("6")
    expect(page.locator("#steps")).to_have_value("12")


def test_unknown_stored_model_gives_way_to_the_default(page: Page) -> None:
    remember(page, lastModelId="gone")
    page.reload()
    expect(page.locator("#model")).to_have_value("shapes")


def test_prompt_is_as_long_as_the_model_takes(page: Page) -> None:
    expect(page.locator("#generate")).to_be_enabled()
    assert page.locator("#prompt").evaluate("input => input.maxLength") == 2000
    page.select_option("#model", "sprint")
    assert page.locator("#prompt").evaluate("input => input.maxLength") == 10_000


def test_example_fills_the_prompt(page: Page) -> None:
    page.locator("#examples button").first.click()
    expect(page.locator("#prompt")).to_have_value(PROMPT)


def test_dice_rolls_a_seed(page: Page) -> None:
    page.get_by_role("button", name="Roll a seed").click()
    expect(page.locator("#seed")).to_have_value(re.compile(r"^\d+$"))


def test_reload_keeps_the_jobs(page: Page, service: FakeService) -> None:
    submit(page, "the first")
    service.complete(service.newest)
    submit(page, "the second")
    page.reload()
    expect(page.locator(".job .prompt")).to_have_text(["the second", "the first"])
    expect(page.locator(".job").last.locator("img")).to_be_visible()
    service.complete(service.newest)
    expect(page.locator(".job").first.locator("img")).to_be_visible()


def test_only_the_last_24_jobs_are_kept(page: Page) -> None:
    page.evaluate("""() => localStorage.setItem("jobs", JSON.stringify(Array.from({length: 24}, (_, number) => (
        {key: `k${number}`, id: null, refusal: "full", request: {prompt: `old ${number}`, settings: {}}}))))""")
    page.reload()
    submit(page)
    prompts = page.evaluate("JSON.parse(localStorage.getItem('jobs')).map(job => job.request.prompt)")
    assert len(prompts) == 24
    assert (prompts[0], prompts[-1]) == (PROMPT, "old 22")


def test_cancel(page: Page, service: FakeService) -> None:
    card = submit(page)
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_have_attribute("data-state", "cancelled")
    assert service.newest["status"] == "cancelled"
    expect(card.get_by_role("button", name="Cancel")).to_be_hidden()
    expect(card).to_be_focused()


def test_removed_card_stays_away(page: Page, service: FakeService) -> None:
    card = submit(page)
    service.complete(service.newest)
    card.get_by_role("button", name="Remove").click()
    expect(page.locator(".job")).to_have_count(0)
    expect(page.locator("#empty")).to_be_visible()
    page.reload()
    expect(page.locator("#empty")).to_be_visible()


def test_failure_shows_the_sentence_of_the_service(page: Page, service: FakeService) -> None:
    card = submit(page)
    service.fail(service.newest, "Out of GPU memory at 1024x1024; try a smaller size.")
    expect(card.locator(".message")).to_have_text("Out of GPU memory at 1024x1024; try a smaller size.")
    expect(card.get_by_role("button", name="Use these settings")).to_be_visible()


def test_refused_submission_is_not_sent_again(page: Page, service: FakeService, watcher: Watcher) -> None:
    watcher.expected.append("503")
    service.refusal = (503, "The queue is full; try again in 20 s.")
    card = submit(page)
    expect(card.locator(".message")).to_have_text("The queue is full; try again in 20 s.")
    expect(page.locator("#connection")).to_be_hidden()
    service.refusal = None
    page.reload()
    expect(page.locator(".job .message")).to_have_text("The queue is full; try again in 20 s.")
    expect(page.locator("#generate")).to_be_enabled()
    assert len(service.requests) == 1


def test_wanted_api_key_is_asked_for(page: Page, service: FakeService, watcher: Watcher) -> None:
    watcher.expected.append("401")
    service.refusal = (401, "An API key is needed.")
    expect(page.locator("#api-key")).to_be_hidden()
    submit(page)
    expect(page.locator("#api-key")).to_be_visible()
    page.fill("#api-key", "secret")
    with page.expect_request("**/api/models") as request:
        page.press("#api-key", "Tab")
    assert request.value.headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize("markup", ["<img src=x onerror=\"document.title='owned'\">", "<script>alert(1)</script>"])
def test_prompt_is_text_only(page: Page, service: FakeService, markup: str) -> None:
    card = submit(page, markup)
    service.fail(service.newest, markup)
    expect(card.locator(".prompt")).to_have_text(markup)
    expect(card.locator(".message")).to_have_text(markup)
    page.reload()
    expect(page.locator(".job .message")).to_have_text(markup)
    assert page.locator(".job script, .job img").count() == 0
    assert page.title() == "CyberImage"


def test_lost_connection_is_told_and_recovers(page: Page, service: FakeService, watcher: Watcher) -> None:
    watcher.expected.append("net::ERR")
    card = submit(page)
    service.stop()
    try:
        expect(page.locator("#connection")).to_be_visible()
        page.fill("#prompt", "sent while nobody listened")
        page.click("#generate")
        expect(page.locator(".job").first).to_have_attribute("data-state", "sending")
    finally:
        service.start()
    expect(page.locator("#connection")).to_be_hidden()
    expect(page.locator(".job").first).to_have_attribute("data-state", "pending")
    for job in service.jobs.values():
        service.complete(job)
    expect(page.locator(".job img")).to_have_count(2)
    expect(card.locator("img")).to_be_visible()


def test_proxy_that_knows_no_service_yet_fails_no_job(page: Page, service: FakeService, watcher: Watcher) -> None:
    watcher.expected.append("404")
    page.route("**/api/status/*", lambda route: route.fulfill(status=404, content_type="text/plain", body="No route."))
    page.get_by_role("button", name="Make your first picture").click()
    expect(page.locator("#connection")).to_be_visible()
    card = page.locator(".job")
    expect(card).not_to_have_attribute("data-state", "failed")
    page.unroute_all(behavior="wait")
    service.complete(service.newest)
    expect(card.locator("img")).to_be_visible()
    expect(page.locator("#connection")).to_be_hidden()


@pytest.mark.parametrize("focus", ["#prompt", "#negative-prompt"])
def test_control_enter_submits(page: Page, service: FakeService, focus: str) -> None:
    expect(page.locator("#generate")).to_be_enabled()
    page.fill("#prompt", PROMPT)
    page.locator("#negative summary").click()
    page.press(focus, "Control+Enter")
    expect(page.locator(".job")).to_have_attribute("data-state", "pending")
    assert len(service.requests) == 1


def test_blank_prompt_is_not_submitted(page: Page, service: FakeService) -> None:
    expect(page.locator("#generate")).to_be_enabled()
    page.fill("#prompt", "   ")
    page.press("#prompt", "Control+Enter")
    assert page.locator("#prompt").evaluate("input => input.validationMessage") == "Describe the picture first"
    expect(page.locator(".job")).to_have_count(0)
    assert service.requests == []


def test_every_control_has_a_name(page: Page) -> None:
    page.select_option("#model", "sprint")
    for control in page.locator("button, input, select, textarea").filter(visible=True).all():
        assert control.evaluate("control => control.labels?.length || control.textContent.trim() || control.ariaLabel")


def test_page_links_the_api_reference(page: Page) -> None:
    expect(page.get_by_role("link", name="API reference")).to_have_attribute("href", "docs")


@pytest.mark.parametrize("arrange", [lambda page: None, lambda page: page.select_option("#model", "sprint")])
def test_nothing_is_too_wide(page: Page, service: FakeService, arrange: Callable[[Page], object]) -> None:
    arrange(page)
    assert overflow(page) == 0
    card = submit(page, "w" * 300)
    assert overflow(page) == 0
    service.complete(service.newest)
    expect(card.locator("img")).to_be_visible()
    assert overflow(page) == 0
