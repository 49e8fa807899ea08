"""How light and how fast the page is: ``python -m benchmarks.page``.

In the system's Chromium with an empty cache, against a service of this machine. Without ``--url`` the service is the
one of the tests, which has no model; then what is measured is the page alone. With the URL of a running service with
the built-in model, also the time from opening the page to its first image is measured.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.browser.chromium import find_chromium, launch
from tests.browser.fake_service import FakeService

LIMIT_BYTES = 150_000
_FIGURES = """async () => {
    const seen = await new Promise((resolve) => {
        new PerformanceObserver((list, observer) => (observer.disconnect(), resolve(list.getEntries())))
            .observe({ type: "paint", buffered: true });
    });
    const [page] = performance.getEntriesByType("navigation");
    const resources = performance.getEntriesByType("resource");
    const files = [page, ...resources].filter(({ name }) => !name.includes("/api/image/"));
    return {
        paint: seen.find(({ name }) => name === "first-contentful-paint").startTime,
        bytes: files.reduce((sum, { transferSize }) => sum + transferSize, 0),
        files: files.length,
    };
}"""


def main() -> None:
    """Measure, print, and fail where the page is too heavy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--url", help="of a running service; without it the one of the tests is started")
    parser.add_argument("--rounds", type=int, default=5, help="how often the page is opened (default: 5)")
    options = parser.parse_args()
    executable = find_chromium()
    if executable is None:
        raise SystemExit("chromium is not installed: install it, or name it in the environment variable CHROMIUM")
    with _service(options.url) as url, sync_playwright() as playwright:
        browser = launch(playwright, executable)
        rounds = [_open(browser, url) for _ in range(options.rounds)]
        transferred = max(int(each["bytes"]) for each in rounds)
        print(
            f"transferred: {transferred:,} bytes in {rounds[0]['files']} files, without images (limit {LIMIT_BYTES:,})"
        )
        paints = [each["paint"] for each in rounds]
        print(f"first contentful paint: median {statistics.median(paints):.0f} ms, worst {max(paints):.0f} ms")
        if options.url:
            images = [_first_image(browser, url) for _ in range(options.rounds)]
            print(f"load to first image: median {statistics.median(images):.2f} s, worst {max(images):.2f} s")
        browser.close()
    if transferred > LIMIT_BYTES:
        raise SystemExit("the page is heavier than its limit")


def _open(browser: Browser, url: str) -> dict[str, float]:
    page = browser.new_page()
    page.goto(url)
    page.wait_for_selector("#generate:enabled")
    figures: dict[str, float] = page.evaluate(_FIGURES)
    page.close()
    return figures


def _first_image(browser: Browser, url: str) -> float:
    """Seconds from opening the page until a picture is shown, by one click."""
    page = browser.new_page()
    page.goto(url)
    page.click("#make-first")
    picture = page.wait_for_selector(".job figure img", timeout=120_000)
    page.wait_for_function("picture => picture.complete && picture.naturalWidth > 0", arg=picture)
    seconds = float(page.evaluate("performance.now() / 1000"))
    page.close()
    return seconds


@contextmanager
def _service(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    service = FakeService()
    service.start()
    try:
        yield service.url
    finally:
        service.stop()


if __name__ == "__main__":
    main()
