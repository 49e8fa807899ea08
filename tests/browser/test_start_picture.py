"""Pictures that jobs start from, masks, and what else a request can have, driven by a real browser."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import FilePayload, Page, expect

from tests.browser.conftest import Watcher
from tests.browser.fake_models import draw
from tests.browser.fake_service import FakeService
from tests.browser.gestures import PROMPT, submit

PICTURE: FilePayload = {"name": "photo.png", "mimeType": "image/png", "buffer": draw()}


@pytest.fixture
def started(page: Page) -> Page:
    """A page with a picture to start from."""
    expect(page.locator("#generate")).to_be_enabled()
    page.set_input_files("#start-file", PICTURE)
    expect(page.locator("#start-words")).to_have_text("64 \u00d7 64 pixels")
    return page


def test_chosen_picture_starts_the_job(started: Page, service: FakeService) -> None:
    started.locator("#strength").fill("0.5")
    submit(started)
    (input_id,) = service.inputs
    assert service.requests[-1]["image"] == input_id
    assert service.requests[-1]["settings"]["strength"] == 0.5


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_dropped_or_pasted_picture_starts_the_job(page: Page, service: FakeService, way: str) -> None:
    expect(page.locator("#generate")).to_be_enabled()
    page.evaluate(
        """async ([bytes, way]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "photo.png", { type: "image/png" }));
            const event = way === "drop"
                ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
            document.querySelector("#prompt").dispatchEvent(event);
        }""",
        [list(draw()), way],
    )
    expect(page.locator("#started img")).to_be_visible()
    submit(page)
    assert service.requests[-1]["image"] in service.inputs


def test_removed_picture_starts_nothing(started: Page, service: FakeService) -> None:
    started.click("#start-remove")
    expect(started.locator("#start-drop")).to_be_visible()
    submit(started)
    assert "image" not in service.requests[-1]


def test_unreadable_picture_is_told(page: Page, watcher: Watcher) -> None:
    watcher.expected.append("415")
    expect(page.locator("#generate")).to_be_enabled()
    page.set_input_files("#start-file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"words"})
    expect(page.locator("#start-problem")).to_have_text("The file is not a PNG, JPEG or WebP picture.")


def mask_of(service: FakeService) -> Image.Image:
    return Image.open(io.BytesIO(service.inputs[service.requests[-1]["mask"]])).convert("L")


def test_mask_is_painted_with_the_pointer(started: Page, service: FakeService) -> None:
    started.click("#start-mask")
    canvas = started.locator(".stage canvas")
    expect(canvas).to_be_focused()
    canvas.hover()  # waits until it has come to rest
    box = canvas.bounding_box()
    assert box
    left, top, side = box["x"], box["y"], box["width"]
    started.mouse.move(left + 0.25 * side, top + 0.5 * side)
    started.mouse.down()
    started.mouse.move(left + 0.75 * side, top + 0.5 * side, steps=4)
    started.mouse.up()
    started.get_by_role("button", name="Use this mask").click()
    expect(started.locator("#start-words")).to_contain_text("with a mask")
    submit(started)
    mask = mask_of(service)
    assert mask.size == (64, 64)
    assert [mask.getpixel(point) for point in ((32, 32), (20, 32), (2, 2), (32, 60))] == [255, 255, 0, 0]


def test_mask_is_painted_with_the_keys(started: Page, service: FakeService) -> None:
    started.click("#start-mask")
    expect(started.locator(".stage canvas")).to_be_focused()
    for key in (" ", *["ArrowRight"] * 6, " "):
        started.keyboard.press(key)
    started.keyboard.press("Control+z")
    started.get_by_role("button", name="Invert").click()
    started.get_by_role("button", name="Use this mask").click()
    expect(started.locator("#start-words")).to_contain_text("with a mask")
    submit(started)
    mask = mask_of(service)
    assert (mask.getpixel((32, 32)), mask.getpixel((2, 2)), mask.getpixel((44, 32))) == (0, 255, 255)


def test_empty_mask_is_not_taken(started: Page) -> None:
    started.click("#start-mask")
    started.get_by_role("button", name="Use this mask").click()
    expect(started.locator(".painter .problem")).to_contain_text("Nothing is painted yet")
    started.keyboard.press("Escape")
    expect(started.locator("#start-unmask")).to_be_hidden()


def test_mask_can_be_taken_away(started: Page, service: FakeService) -> None:
    started.click("#start-mask")
    started.locator(".stage canvas").press(" ")
    started.get_by_role("button", name="Use this mask").click()
    started.click("#start-unmask")
    submit(started)
    assert "mask" not in service.requests[-1]


def test_model_without_the_task_takes_no_picture(started: Page, service: FakeService) -> None:
    started.select_option("#model", "sprint")
    expect(started.locator("#start")).to_be_hidden()
    submit(started)
    assert "image" not in service.requests[-1]
    assert service.requests[-1]["settings"]["width"] == 1024


def test_made_picture_starts_the_next_job(page: Page, service: FakeService) -> None:
    card = submit(page)
    service.complete(service.newest)
    card.locator("figure [data-action=start]").click()
    expect(page.locator("#start-words")).to_have_text("An image made here")
    submit(page)
    assert service.requests[-1]["image"] == service.images[0]["id"]


def test_size_comes_with_the_picture(page: Page, service: FakeService) -> None:
    service.models["sprint"]["tasks"] = ["text2image", "image2image"]
    page.reload()
    page.select_option("#model", "sprint")
    expect(page.locator("#size-fields")).to_be_visible()
    page.set_input_files("#start-file", PICTURE)
    expect(page.locator("#size-fields")).to_be_hidden()
    expect(page.locator("#start-mask")).to_be_hidden()
    submit(page)
    assert "width" not in service.requests[-1]["settings"]


def test_enriched_prompt_can_be_undone(page: Page) -> None:
    expect(page.locator("#generate")).to_be_enabled()
    page.fill("#prompt", "a castle")
    page.fill("#enrich-style", "watercolour")
    page.click("#enrich")
    expect(page.locator("#prompt")).to_have_value("a castle, finely detailed, watercolour")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#prompt")).to_have_value("a castle")


def test_enrich_is_there_only_with_a_language_model(page: Page, service: FakeService) -> None:
    expect(page.locator("#enrich")).to_be_visible()
    service.enriches = False
    page.reload()
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#enrich")).to_be_hidden()


def test_settings_of_every_kind_are_sent_and_remembered(page: Page, service: FakeService) -> None:
    expect(page.locator("#generate")).to_be_enabled()
    page.locator("#more summary").click()
    page.select_option("#scheduler", "EulerDiscreteScheduler")
    page.select_option("#output-format", "webp")
    page.fill("#quality", "70")
    page.select_option("#priority", "low")
    page.check("#deterministic")
    page.reload()
    expect(page.locator("#scheduler")).to_have_value("EulerDiscreteScheduler")
    expect(page.locator("#deterministic")).to_be_checked()
    submit(page)
    sent = service.requests[-1]
    assert sent["priority"] == "low"
    assert (
        sent["settings"].items()
        >= {
            "scheduler": "EulerDiscreteScheduler",
            "output_format": "webp",
            "quality": 70,
            "deterministic": True,
        }.items()
    )


def test_lock_keeps_the_last_seed(page: Page, service: FakeService) -> None:
    lock = page.get_by_role("button", name="Keep the seed")
    submit(page)
    service.complete(service.newest)
    expect(lock).to_have_attribute("aria-pressed", "false")
    lock.click()
    expect(page.locator("#seed")).to_have_value("9007199254740993")
    expect(lock).to_have_attribute("aria-pressed", "true")
    lock.click()
    expect(page.locator("#seed")).to_have_value("")


def test_presets_are_within_the_limits(page: Page) -> None:
    page.select_option("#model", "sprint")
    page.locator("#presets button").filter(has_text="Tall").click()
    width, height = (int(page.input_value(f"#{side}")) for side in ("width", "height"))
    assert width < height
    assert width * height <= 1048576
    assert (width % 32, height % 32) == (0, 0)
    assert page.locator("#height").evaluate("input => input.validity.valid")
    page.get_by_role("button", name="Swap width and height").click()
    assert (page.input_value("#width"), page.input_value("#height")) == (str(height), str(width))


def test_prompt_is_counted_against_the_limit(page: Page) -> None:
    page.fill("#prompt", PROMPT)
    expect(page.locator("#prompt-count")).to_have_text("10 / 40 tokens")
    page.fill("#prompt", "many " * 50)
    expect(page.locator("#prompt-count")).to_have_text("52 / 40 tokens: the end is not read")


def test_prompt_that_the_service_cannot_count_is_estimated(page: Page) -> None:
    with page.expect_response(lambda response: "sprint" in (response.request.post_data or "")):
        page.fill("#prompt", PROMPT)
        page.select_option("#model", "sprint")
        expect(page.locator("#prompt-count")).to_have_text("about 9 / 300 tokens")
    page.fill("#prompt", PROMPT + "!")
    expect(page.locator("#prompt-count")).to_have_text("about 10 / 300 tokens")


def test_model_says_why_it_is_not_there(page: Page, service: FakeService) -> None:
    expect(page.locator("#model option")).to_have_text(["shapes (ready)", "sprint (unavailable)"])
    page.select_option("#model", "sprint")
    expect(page.locator("#model-state")).to_contain_text("Its weights are not complete; fetch them again.")


def test_first_picture_is_one_click_away(page: Page, service: FakeService) -> None:
    page.get_by_role("button", name="Make your first picture").click()
    expect(page.locator(".job")).to_have_attribute("data-state", "pending")
    service.complete(service.newest)
    expect(page.locator(".job img")).to_be_visible()
    assert service.requests[-1]["prompt"] == PROMPT


def test_picture_of_a_job_opens_large(page: Page, service: FakeService) -> None:
    card = submit(page)
    service.complete(service.newest)
    card.locator("a.frame").click()
    viewer = page.locator("dialog.viewer")
    expect(viewer.locator(".viewer-prompt")).to_have_text(PROMPT)
    expect(viewer.locator(".facts")).to_contain_text(re.compile("Seed9007199254740993"))
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()


def test_jobs_go_on_without_event_streams(page: Page, service: FakeService, watcher: Watcher) -> None:
    watcher.expected.append("503")
    service.streams = False
    card = submit(page)
    service.step(service.newest, 7)
    expect(card.locator(".state")).to_contain_text("step 7 of 20")
    service.complete(service.newest)
    expect(card.locator("img")).to_be_visible()


def test_news_come_without_asking(page: Page, service: FakeService) -> None:
    with page.expect_response("**/api/events*"):
        card = submit(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/status/" in request.url else None)
    service.step(service.newest, 1)
    expect(card.locator(".state")).to_contain_text("step 1 of 20, about 4 s")
    before = len(asked)
    for step in range(2, 8):
        service.step(service.newest, step)
        expect(card.locator(".state")).to_contain_text(f"step {step} of 20")
    assert len(asked) <= before + 1
