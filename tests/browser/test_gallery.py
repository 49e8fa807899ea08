"""The gallery, driven by a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from deployments.jobs.images.gallery import MOST_COUNTED
from tests.browser.conftest import Watcher
from tests.browser.fake_service import FakeService
from tests.browser.gestures import PROMPT, overflow, show, submit

WORDS = ("red circle", "blue square", "green star", "red star", "white ring")


@pytest.fixture
def gallery(page: Page, service: FakeService) -> Page:
    for words in reversed(WORDS):
        service.add_image(words)
    show(page, "gallery")
    expect(page.locator(".tile")).to_have_count(len(WORDS))
    return page


def prompts(page: Page) -> list[str]:
    return [str(tile.get_attribute("title")) for tile in page.locator(".tile a").all()]


def test_images_are_shown_newest_first_with_their_thumbnails(gallery: Page) -> None:
    assert prompts(gallery) == list(WORDS)
    expect(gallery.locator(".found")).to_have_text("5 images")
    picture = gallery.locator(".tile img").first
    gallery.wait_for_function("picture => picture.naturalWidth === 64", arg=picture.element_handle())
    assert "/thumbnail?size=" in str(picture.get_attribute("src"))
    assert overflow(gallery) == 0


def test_search_finds_while_it_is_typed(gallery: Page) -> None:
    gallery.locator("#gallery-search").press_sequentially("star red")
    expect(gallery.locator(".tile")).to_have_count(1)
    assert prompts(gallery) == ["red star"]


def test_search_with_more_results_than_are_counted_says_so(gallery: Page, service: FakeService) -> None:
    for _ in range(MOST_COUNTED):
        service.add_image("yellow ring")
    gallery.fill("#gallery-search", "yellow")
    expect(gallery.locator(".found")).to_have_text(f"{MOST_COUNTED:,} images or more")


def test_search_without_a_result_offers_a_way_out(gallery: Page) -> None:
    gallery.fill("#gallery-search", "nothing like that")
    expect(gallery.get_by_role("heading", name="Nothing is like that")).to_be_visible()
    gallery.get_by_role("button", name="Show all images").click()
    expect(gallery.locator(".tile")).to_have_count(len(WORDS))


def test_empty_gallery_leads_to_the_form(page: Page) -> None:
    show(page, "gallery")
    page.get_by_role("link", name="Make the first one").click()
    expect(page.locator("#prompt")).to_be_visible()


def test_filters_narrow_it_down(gallery: Page, service: FakeService) -> None:
    service.images[1]["favourite"] = True
    service.images[2] |= {"tags": ["night"], "model_id": "sprint"}
    gallery.reload()
    gallery.click("#gallery-favourites")
    expect(gallery.locator(".tile")).to_have_count(1)
    assert prompts(gallery) == ["blue square"]
    # The tiles of a search stay until the next one is answered: a count that changes tells the answers apart.
    gallery.click("#gallery-favourites")
    expect(gallery.locator(".tile")).to_have_count(len(WORDS))
    gallery.select_option("#gallery-tag", "night")
    expect(gallery.locator(".tile")).to_have_count(1)
    gallery.select_option("#gallery-tag", "")
    expect(gallery.locator(".tile")).to_have_count(len(WORDS))
    gallery.select_option("#gallery-model", "sprint")
    expect(gallery.locator(".tile")).to_have_count(1)
    assert prompts(gallery) == ["green star"]


def test_failure_says_so_and_can_be_repeated(page: Page, service: FakeService, watcher: Watcher) -> None:
    watcher.expected.append("net::ERR")
    service.add_image("red circle")
    page.route("**/api/gallery*", lambda route: route.abort())
    show(page, "gallery")
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    page.unroute("**/api/gallery*")
    again.click()
    expect(page.locator(".tile")).to_have_count(1)


def test_thousands_of_images_are_a_few_elements(page: Page, service: FakeService) -> None:
    for number in range(1200):
        service.add_image(f"number {number}")
    show(page, "gallery")
    expect(page.locator(".found")).to_have_text("1,200 images")
    for _ in range(8):
        before = page.locator(".tiles").evaluate("tiles => tiles.offsetHeight")
        page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
        page.wait_for_function("before => document.querySelector('.tiles').offsetHeight > before", arg=before)
    assert page.locator(".tile").count() < 150
    expect(page.locator(".tile").last).to_be_visible()
    shown = page.locator(".tile").evaluate_all("tiles => tiles.map(tile => Number(tile.getAttribute('aria-posinset')))")
    assert min(shown) > 100
    assert len(set(shown)) == len(shown)


def test_position_is_kept_while_another_view_is_looked_at(page: Page, service: FakeService) -> None:
    for number in range(200):
        service.add_image(f"number {number}")
    show(page, "gallery")
    expect(page.locator(".tile").first).to_be_visible()
    page.evaluate("window.scrollTo(0, 400)")
    # By the address: clicking a link in the page's head would scroll there.
    page.evaluate("location.hash = 'queue'")
    expect(page.locator("#view-queue")).to_be_visible()
    page.go_back()
    expect(page.locator("#view-gallery")).to_be_visible()
    page.wait_for_function("() => window.scrollY === 400")


def test_viewer_tells_all_parameters(gallery: Page) -> None:
    gallery.locator(".tile a").nth(1).click()
    viewer = gallery.locator("dialog.viewer")
    expect(viewer.locator(".viewer-prompt")).to_have_text("blue square")
    expect(viewer).to_contain_text("2 of 5")
    for words in ("Negative promptblur", "Seed3", "Steps20", "Size64 \u00d7 64", "Modelshapes"):
        expect(viewer.locator(".facts")).to_contain_text(words)
    viewer.get_by_role("button", name="Next image").click()
    expect(viewer.locator(".viewer-prompt")).to_have_text("green star")
    gallery.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(gallery.locator(".tile a").nth(2)).to_be_focused()


def test_viewer_marks_favourites_and_tags(gallery: Page, service: FakeService) -> None:
    gallery.locator(".tile a").first.click()
    viewer = gallery.locator("dialog.viewer")
    viewer.get_by_role("button", name="Favourite").click()
    expect(viewer.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "true")
    viewer.locator("#viewer-tag").fill("Evening light")
    viewer.locator("#viewer-tag").press("Enter")
    expect(viewer.locator(".tags li")).to_have_text("evening light")
    assert (service.images[0]["favourite"], service.images[0]["tags"]) == (True, ["evening light"])
    viewer.get_by_role("button", name="Remove the tag evening light").click()
    expect(viewer.locator(".tags li")).to_have_count(0)
    gallery.keyboard.press("Escape")
    expect(gallery.locator(".tile").first.locator(".is-favourite")).to_be_visible()


def test_parameters_of_an_image_return_to_the_form(gallery: Page) -> None:
    gallery.locator(".tile a").nth(1).click()
    expect(gallery.locator(".viewer .facts")).to_contain_text("Negative prompt")
    gallery.get_by_role("button", name="Use these settings").click()
    expect(gallery.locator("#prompt")).to_have_value("blue square")
    expect(gallery.locator("#negative-prompt")).to_have_value("blur")
    expect(gallery.locator("#seed")).to_have_value("3")
    expect(gallery.locator("#prompt")).to_be_focused()


def test_image_becomes_a_start_picture(gallery: Page, service: FakeService) -> None:
    gallery.locator(".tile a").nth(1).click()
    gallery.get_by_role("button", name="Start from it").click()
    expect(gallery.locator("#started img")).to_be_visible()
    submit(gallery)
    assert service.requests[-1]["image"] == service.images[1]["id"]


def test_image_is_deleted_after_a_question(gallery: Page, service: FakeService) -> None:
    gallery.locator(".tile a").first.click()
    viewer = gallery.locator("dialog.viewer")
    viewer.get_by_role("button", name="Delete").click()
    question = gallery.get_by_role("dialog", name="Delete this image for good?")
    question.get_by_role("button", name="Cancel").click()
    assert len(service.images) == len(WORDS)
    viewer.get_by_role("button", name="Delete").click()
    question.get_by_role("button", name="Delete").click()
    expect(viewer.locator(".viewer-prompt")).to_have_text("blue square")
    assert [image["prompt"] for image in service.images] == list(WORDS[1:])


def test_selected_images_are_deleted_together(gallery: Page, service: FakeService) -> None:
    for place in (0, 2):
        gallery.locator(".tile input").nth(place).check(force=True)
    expect(gallery.locator(".chosen")).to_have_text("2 selected")
    bar = gallery.get_by_role("toolbar", name="Selected images")
    bar.get_by_role("button", name="Delete").click()
    gallery.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(gallery.locator(".tile")).to_have_count(3)
    expect(bar).to_be_hidden()
    assert [image["prompt"] for image in service.images] == ["blue square", "red star", "white ring"]


def test_selected_images_are_saved_as_one_file(gallery: Page) -> None:
    gallery.locator(".tile input").nth(0).check(force=True)
    bar = gallery.get_by_role("toolbar", name="Selected images")
    with gallery.expect_download() as single:
        bar.get_by_role("button", name="Download").click()
    assert single.value.suggested_filename == "cyberimage-4.png"
    bar.get_by_role("button", name="Select all").click()
    with gallery.expect_download() as archive:
        bar.get_by_role("button", name="Download").click()
    assert archive.value.suggested_filename == "cyberimage.zip"
    assert archive.value.path().read_bytes() == b"5 images"


def test_two_images_are_compared(gallery: Page) -> None:
    for place in (0, 1):
        gallery.locator(".tile input").nth(place).check(force=True)
    gallery.get_by_role("button", name="Compare").click()
    compared = gallery.get_by_role("dialog", name="Compare")
    expect(compared.locator(".viewer-prompt")).to_have_text(["red circle", "blue square"])
    differing = compared.locator(".differs dt").all_text_contents()
    assert "Seed" in differing
    assert "Steps" not in differing


def test_copying_without_a_clipboard_leaves_the_focus(page: Page, service: FakeService) -> None:
    """As on a machine of the home network, whose page has no certificate."""
    service.add_image("red circle")
    page.add_init_script("Object.defineProperty(Navigator.prototype, 'clipboard', { value: undefined })")
    page.reload()
    show(page, "gallery")
    expect(page.locator(".tile")).to_have_count(1)
    page.keyboard.press("j")
    expect(page.locator(".tile a")).to_be_focused()
    page.keyboard.press("c")
    expect(page.locator("#notices")).to_contain_text("The prompt is copied.")
    expect(page.locator(".tile a")).to_be_focused()


def test_keys_do_what_buttons_do(gallery: Page, service: FakeService) -> None:
    gallery.keyboard.press("j")
    gallery.keyboard.press("j")
    gallery.keyboard.press("k")
    gallery.keyboard.press("j")
    expect(gallery.locator(".tile a").nth(1)).to_be_focused()
    gallery.keyboard.press("f")
    expect(gallery.locator(".tile").nth(1).locator(".is-favourite")).to_be_visible()
    gallery.keyboard.press(" ")
    expect(gallery.locator(".chosen")).to_have_text("1 selected")
    gallery.keyboard.press("a")
    expect(gallery.locator(".chosen")).to_have_text("5 selected")
    gallery.keyboard.press("Shift+A")
    expect(gallery.locator(".selection")).to_be_hidden()
    gallery.keyboard.press("a")
    gallery.keyboard.press("Escape")
    expect(gallery.locator(".selection")).to_be_hidden()
    gallery.keyboard.press("c")
    expect(gallery.locator("#notices")).to_contain_text("The prompt is copied.")
    with gallery.expect_download() as download:
        gallery.keyboard.press("d")
    assert download.value.suggested_filename == "cyberimage-3.png"
    gallery.keyboard.press("Enter")
    expect(gallery.locator("dialog.viewer .viewer-prompt")).to_have_text("blue square")
    gallery.keyboard.press("j")
    expect(gallery.locator("dialog.viewer .viewer-prompt")).to_have_text("green star")
    gallery.keyboard.press("Escape")
    expect(gallery.locator(".tile a").nth(2)).to_be_focused()
    gallery.keyboard.press("/")
    expect(gallery.locator("#gallery-search")).to_be_focused()
    gallery.keyboard.type("jfa")
    expect(gallery.locator("#gallery-search")).to_have_value("jfa")
    assert [image["favourite"] for image in service.images].count(True) == 1


def test_keys_of_the_viewer_work_for_every_image(gallery: Page) -> None:
    """For the first one and the last one too, where a button has nowhere to go."""
    viewer = gallery.locator("dialog.viewer")
    prompt = viewer.locator(".viewer-prompt")
    gallery.locator(".tile a").first.press("Enter")
    expect(prompt).to_have_text("red circle")
    gallery.keyboard.press(" ")
    expect(viewer.get_by_role("button", name="Select")).to_have_attribute("aria-pressed", "true")
    gallery.keyboard.press("j")
    expect(prompt).to_have_text("blue square")
    forward = viewer.get_by_role("button", name="Next image")
    for words in WORDS[2:]:
        forward.click()
        expect(prompt).to_have_text(words)
    expect(forward).to_be_disabled()
    gallery.keyboard.press("k")
    expect(prompt).to_have_text(WORDS[-2])


def test_keys_of_the_viewer_work_after_a_tag_is_removed(gallery: Page, service: FakeService) -> None:
    service.images[0]["tags"] = ["night"]
    gallery.reload()
    gallery.locator(".tile a").first.click()
    viewer = gallery.locator("dialog.viewer")
    viewer.get_by_role("button", name="Remove the tag night").click()
    expect(viewer.locator(".tags li")).to_have_count(0)
    gallery.keyboard.press("j")
    expect(viewer.locator(".viewer-prompt")).to_have_text("blue square")


def test_new_picture_appears_by_itself(page: Page, service: FakeService) -> None:
    submit(page)
    show(page, "gallery")
    expect(page.get_by_role("heading", name="No images yet")).to_be_visible()
    service.complete(service.newest)
    expect(page.locator(".tile")).to_have_count(1)
    assert prompts(page) == [PROMPT]


def test_address_of_an_image_opens_it(page: Page, service: FakeService) -> None:
    made = service.add_image("red circle")
    page.goto(f"/#gallery/{made['id']}")
    expect(page.locator("dialog.viewer .viewer-prompt")).to_have_text("red circle")
