"""Pictures of the page for the documentation, into docs/images: ``make screenshots``.

The service is the one of the tests, so that every state can be had at any time; the images in it are the built-in
model's own, cut out of the sheet ``docs/images/shapes.png``.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from models.training.pictures import CAPTIONS
from tests.browser import fake_routes
from tests.browser.chromium import find_chromium, launch
from tests.browser.fake_service import FakeService

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SIZES = {"light": (1280, 800), "dark": (1280, 800), "phone": (390, 844)}
_ARE_SHOWN = """() => [...document.images].every((image) =>
    image.complete || !image.checkVisibility() || image.getBoundingClientRect().top > innerHeight)"""
_TILE, _COLUMNS, _PITCH, _EDGE = 192, 6, (204, 234), 12


def main() -> None:
    """Take all pictures."""
    executable = find_chromium()
    if executable is None:
        raise SystemExit("chromium is not installed: install it, or name it in the environment variable CHROMIUM")
    tiles = _cut_sheet()
    fake_routes.draw = lambda size=64, hue=0: tiles[hue // 37 % len(tiles)]
    with _service() as service, sync_playwright() as playwright:
        browser = launch(playwright, executable)
        for variant, (width, height) in SIZES.items():
            _take_all(browser, service, variant, width, height)
        browser.close()


def _take_all(browser: Browser, service: FakeService, variant: str, width: int, height: int) -> None:
    service.forget()
    service.links = {"ray_dashboard": "http://127.0.0.1:8265", "grafana": "http://127.0.0.1:3000"}
    context = browser.new_context(
        base_url=service.url,
        viewport={"width": width, "height": height},
        color_scheme="dark" if variant == "dark" else "light",
        has_touch=variant == "phone",
        reduced_motion="reduce",
    )
    page = context.new_page()

    def take(name: str) -> None:
        page.mouse.move(0, 0)
        page.wait_for_function(_ARE_SHOWN)
        page.screenshot(path=IMAGES / f"page-{name}-{variant}.png")

    page.goto("/")
    page.wait_for_selector("#generate:enabled")
    take("first-visit")
    _generate(page, service)
    take("generate")
    _fill_gallery(service)
    page.evaluate("location.hash = 'gallery'")
    page.wait_for_selector(".tile")
    take("gallery")
    page.locator(".tile a").nth(1).click()
    take("viewer")
    page.keyboard.press("Escape")
    _fill_queue(service)
    page.evaluate("location.hash = 'queue'")
    page.wait_for_selector(".job-row")
    take("queue")
    context.close()


def _generate(page: Page, service: FakeService) -> None:
    """Two finished jobs, one that runs with a preview, and one that waits."""
    for place, prompt in enumerate((CAPTIONS[5], CAPTIONS[0])):
        page.fill("#seed", str((5, 0)[place]))
        page.fill("#prompt", prompt)
        page.click("#generate")
        page.wait_for_selector(".job[data-state=pending]")
        service.complete(service.newest)
        page.wait_for_selector(".job:first-child img")
    page.fill("#seed", "")
    page.fill("#prompt", CAPTIONS[7])
    page.click("#generate")
    page.wait_for_selector(".job[data-state=pending]")
    service.step(service.newest, 9)
    page.wait_for_selector(".job[data-state=processing]")
    picture = base64.b64encode(fake_routes.draw(hue=37 * 7)).decode()
    service.preview(service.newest, f"data:image/png;base64,{picture}")
    page.wait_for_selector(".preview[src^='data:']")
    page.fill("#prompt", CAPTIONS[12])
    page.wait_for_function("() => /^[0-9]+ .* tokens$/.test(document.getElementById('prompt-count').textContent)")
    page.evaluate("document.getElementById('generation').scrollTo(0, 0); window.scrollTo(0, 0)")


def _fill_gallery(service: FakeService) -> None:
    service.images.clear()
    for seed in range(len(CAPTIONS) - 1, -1, -1):
        made = service.add_image(CAPTIONS[seed], seed=seed, guidance_scale=1.5)
        made["favourite"] = seed in (1, 7)
        made["tags"] = ["stars"] if "star" in CAPTIONS[seed] else []


def _fill_queue(service: FakeService) -> None:
    for place, caption in enumerate(CAPTIONS[2:6]):
        service.submit({"model_id": "shapes", "prompt": caption, "settings": {"num_inference_steps": 20}}, str(place))
    jobs = list(service.jobs.values())
    service.fail(jobs[-4], "Out of GPU memory at 1024x1024; try a smaller size.")
    service.step(jobs[-3], 12)


def _cut_sheet() -> list[bytes]:
    sheet = Image.open(IMAGES / "shapes.png").convert("RGB")
    tiles = []
    for place in range(len(CAPTIONS)):
        row, column = divmod(place, _COLUMNS)
        left, top = _EDGE + column * _PITCH[0], _EDGE + row * _PITCH[1]
        file = io.BytesIO()
        sheet.crop((left, top, left + _TILE, top + _TILE)).save(file, "PNG")
        tiles.append(file.getvalue())
    return tiles


@contextmanager
def _service() -> Iterator[FakeService]:
    service = FakeService()
    service.start()
    try:
        yield service
    finally:
        service.stop()


if __name__ == "__main__":
    main()
