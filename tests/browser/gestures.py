"""What people do with the page, in the words of the tests."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

PROMPT = "a large red circle on a blue background"


def submit(page: Page, prompt: str = PROMPT) -> Locator:
    """Submit a prompt and wait until the service has the job; its card."""
    expect(page.locator("#generate")).to_be_enabled()
    page.fill("#prompt", prompt)
    page.click("#generate")
    card = page.locator(".job").first
    expect(card).not_to_have_attribute("data-state", "sending")
    return card


def show(page: Page, view: str) -> None:
    """Go to a view by its link."""
    page.locator(f"[data-view={view}]").click()
    expect(page.locator(f"#view-{view}")).to_be_visible()


def remember(page: Page, **items: str) -> None:
    """Put something into the browser's memory."""
    page.evaluate("items => Object.entries(items).forEach(item => localStorage.setItem(...item))", items)


def overflow(page: Page) -> int:
    """By how many pixels the page is too wide."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
