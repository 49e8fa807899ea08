"""LoRAs and pictures for a ControlNet, where a model has them, driven by a real browser."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from playwright.sync_api import FilePayload, Page, expect

from tests.browser.fake_models import draw
from tests.browser.fake_service import FakeService
from tests.browser.gestures import overflow, remember, submit

PICTURE: FilePayload = {"name": "edges.png", "mimeType": "image/png", "buffer": draw(96)}


@pytest.fixture
def rich(page: Page, service: FakeService) -> Page:
    """A page whose chosen model has LoRAs and a ControlNet, with all settings unfolded."""
    service.models["sprint"] |= {
        "loras": ["ink", "gold", "night"],
        "lora_scales": {"ink": 0.8, "gold": 1.0, "night": 1.0},
        "max_loras": 2,
        "tasks": ["text2image", "image2image"],
        "control_tasks": ["text2image"],
        "clip_skip": {"maximum": 11, "default": 1},
    }
    page.reload()
    page.select_option("#model", "sprint")
    page.locator("#more summary").click()
    return page


def test_models_without_them_show_neither(page: Page) -> None:
    expect(page.locator("#generate")).to_be_enabled()
    page.locator("#more summary").click()
    expect(page.locator("#priority")).to_be_visible()
    expect(page.locator("#loras")).to_be_hidden()
    expect(page.locator("#control")).to_be_hidden()
    expect(page.get_by_label("CLIP layers to skip")).to_be_hidden()


def test_chosen_loras_are_sent_with_their_scales(rich: Page, service: FakeService) -> None:
    expect(rich.get_by_label("Scale of ink")).to_be_hidden()
    rich.get_by_label("ink", exact=True).check()
    rich.get_by_label("gold", exact=True).check()
    rich.get_by_label("Scale of gold").fill("-0.5")
    expect(rich.get_by_label("night", exact=True)).to_be_disabled()
    expect(rich.locator("#lora-limit")).to_have_text("At most 2 at once")
    assert overflow(rich) == 0
    submit(rich)
    chosen = [{"name": "ink", "scale": 0.8}, {"name": "gold", "scale": -0.5}]
    assert service.requests[-1]["settings"]["loras"] == chosen
    rich.locator("#more summary").click()
    expect(rich.locator("#more-chosen")).to_have_text("2 LoRAs")
    rich.select_option("#model", "shapes")
    submit(rich)
    assert "loras" not in service.requests[-1]["settings"]


def test_stored_loras_count_as_far_as_the_model_has_them(rich: Page, service: FakeService) -> None:
    remember(rich, lastLoras='{"gone": 1, "ink": 99, "gold": 0.25}')
    rich.reload()
    submit(rich)
    chosen = [{"name": "ink", "scale": 0.8}, {"name": "gold", "scale": 0.25}]
    assert service.requests[-1]["settings"]["loras"] == chosen
    remember(rich, lastLoras="[nonsense")
    rich.reload()
    submit(rich)
    assert "loras" not in service.requests[-1]["settings"]


def test_skipped_layers_of_clip_are_the_models_until_they_are_chosen(rich: Page, service: FakeService) -> None:
    skipped = rich.get_by_label("CLIP layers to skip")
    expect(skipped).to_have_value("1")
    skipped.fill("12")
    rich.click("#generate")
    expect(rich.locator("#clip-skip:invalid")).to_be_visible()
    assert service.requests == []
    skipped.fill("2")
    submit(rich)
    assert service.requests[-1]["settings"]["clip_skip"] == 2
    service.complete(service.newest)
    rich.reload()
    expect(skipped).to_have_value("2")
    expect(rich.locator("#more-chosen")).to_have_text("CLIP skip 2")
    rich.select_option("#model", "shapes")
    expect(rich.locator("#more-chosen")).to_be_empty()
    submit(rich)
    assert "clip_skip" not in service.requests[-1]["settings"]
    rich.locator(".job").last.locator("figure [data-action=reuse]").click()
    expect(skipped).to_have_value("2")


def test_control_picture_is_sent_in_the_size_of_the_images(rich: Page, service: FakeService) -> None:
    rich.set_input_files("#control-file", PICTURE)
    expect(rich.locator("#control-words")).to_have_text("96 \u00d7 96 pixels")
    assert rich.input_value("#width") == rich.input_value("#height")
    rich.fill("#width", "512")
    rich.fill("#height", "256")
    rich.locator("#control-scale").fill("0.6")
    submit(rich)
    sent = service.requests[-1]
    assert (sent["settings"]["width"], sent["settings"]["height"]) == (512, 256)
    assert sent["settings"]["control_scale"] == 0.6
    assert Image.open(io.BytesIO(service.inputs[sent["control_image"]])).size == (512, 256)


def test_settings_of_a_controlled_job_return_to_the_form(rich: Page, service: FakeService) -> None:
    rich.set_input_files("#control-file", PICTURE)
    expect(rich.locator("#control-words")).to_have_text("96 \u00d7 96 pixels")
    rich.locator("#control-scale").fill("0.6")
    rich.get_by_label("ink", exact=True).check()
    card = submit(rich)
    first = service.requests[-1]
    service.complete(service.newest)
    rich.click("#control-remove")
    rich.get_by_label("ink", exact=True).uncheck()
    card.locator("figure [data-action=reuse]").click()
    expect(rich.locator("#control-words")).to_have_text("The picture of the earlier job")
    rich.fill("#seed", "")
    submit(rich)
    assert service.requests[-1] == first


def test_control_picture_waits_while_another_one_starts_the_job(rich: Page, service: FakeService) -> None:
    rich.set_input_files("#control-file", PICTURE)
    expect(rich.locator("#control-words")).to_have_text("96 \u00d7 96 pixels")
    rich.set_input_files("#start-file", PICTURE)
    expect(rich.locator("#control-other")).to_be_visible()
    submit(rich)
    assert "image" in service.requests[-1]
    assert "control_image" not in service.requests[-1]
    rich.click("#start-remove")
    rich.click("#generate")
    expect(rich.locator(".job")).to_have_count(2)
    expect(rich.locator(".job").first).to_have_attribute("data-state", "pending")
    assert "control_image" in service.requests[-1]


def test_dropped_picture_goes_where_it_is_dropped(rich: Page) -> None:
    expect(rich.locator("#control-drop")).to_be_visible()
    rich.evaluate(
        """bytes => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "edges.png", { type: "image/png" }));
            const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
            document.querySelector("#control-drop").dispatchEvent(event);
        }""",
        list(draw(96)),
    )
    expect(rich.locator("#control-picture img")).to_be_visible()
    expect(rich.locator("#started")).to_be_hidden()


def test_unreadable_control_picture_is_told(rich: Page) -> None:
    rich.set_input_files("#control-file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"words"})
    expect(rich.locator("#control-problem")).to_have_text("The file is not a picture that this browser can read.")
