"""The queue, driven by a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from deployments.doctor.finding import POINTER
from tests.browser.fake_service import FakeService
from tests.browser.gestures import overflow, show


def queue_up(service: FakeService, prompt: str) -> dict[str, Any]:
    body = {"model_id": "shapes", "prompt": prompt, "settings": {"num_inference_steps": 20}}
    return service.submit(body, prompt)


@pytest.fixture
def queue(page: Page, service: FakeService) -> Page:
    """Of a service with a job in each state."""
    queue_up(service, "it waits")
    service.step(queue_up(service, "it runs"), 5)
    service.complete(queue_up(service, "it is done"))
    service.fail(queue_up(service, "it failed"), "Out of GPU memory; try a smaller size.")
    show(page, "queue")
    expect(page.locator(".job-row")).to_have_count(4)
    # The counts have an answer of their own.
    expect(page.locator("#view-queue")).to_contain_text("1 waiting, 1 running")
    return page


def row(page: Page, prompt: str) -> Locator:
    return page.locator(".job-row").filter(has_text=prompt)


def test_jobs_are_told_with_their_states_and_reasons(queue: Page) -> None:
    expect(row(queue, "it runs").locator(".state")).to_have_text("Running, step 5 of 20")
    expect(row(queue, "it failed").locator(".reason")).to_have_text("Out of GPU memory; try a smaller size.")
    expect(queue.locator("#view-queue")).to_contain_text("1 waiting, 1 running")
    assert overflow(queue) == 0


def test_only_jobs_of_a_state(queue: Page) -> None:
    queue.locator(".state-tabs").get_by_role("button", name="Failed").click()
    expect(queue.locator(".job-prompt")).to_have_text(["it failed"])
    queue.locator(".state-tabs").get_by_role("button", name="Cancelled").click()
    expect(queue.locator(".job-list").first).to_have_text("No job was cancelled.")


def test_cancel_retry_and_priority(queue: Page, service: FakeService) -> None:
    queue.get_by_label("Priority of it waits").select_option("high")
    expect(row(queue, "it waits")).to_contain_text("high priority")
    row(queue, "it waits").get_by_role("button", name="Cancel").click()
    expect(row(queue, "it waits").locator(".state")).to_have_text("Cancelled")
    row(queue, "it failed").get_by_role("button", name="Try again").click()
    expect(row(queue, "it failed")).to_have_count(2)
    assert service.newest["prompt"] == "it failed"
    assert service.newest["status"] == "pending"


def test_clearing_asks_first(queue: Page, service: FakeService) -> None:
    queue.locator(".state-tabs").get_by_role("button", name="Failed").click()
    queue.get_by_role("button", name="Clear", exact=True).click()
    question = queue.get_by_role("dialog")
    expect(question).to_contain_text("Clear 1 failed job?")
    question.get_by_role("button", name="Clear").click()
    expect(queue.locator("#notices")).to_contain_text("1 failed jobs are cleared.")
    assert "failed" not in [job["status"] for job in service.jobs.values()]


def test_model_is_paused_and_resumed(queue: Page, service: FakeService) -> None:
    queue.get_by_role("button", name="Pause shapes").click()
    expect(queue.locator(".model-list")).to_contain_text("Paused: jobs wait, none is started")
    assert service.paused == ["shapes"]
    queue.get_by_role("button", name="Resume shapes").click()
    expect(queue.get_by_role("button", name="Pause shapes")).to_be_visible()
    assert service.paused == []


def test_models_tell_why_they_are_not_there(queue: Page) -> None:
    reason = "Could not be loaded: Its weights are not complete; fetch them again."
    expect(queue.locator(".model-list")).to_contain_text(f"{reason} {POINTER}")


def test_models_tell_how_they_do(queue: Page) -> None:
    shapes = queue.locator(".model-list li").filter(has_text="shapes")
    told = ["1 copy", "batches to 8", "4.3 images/min", "1 waiting", "1 running", "1 done", "1 failed"]
    expect(shapes.locator(".numbers span")).to_have_text(told)


def test_pages_of_other_programs_are_linked_where_there_are_any(page: Page, service: FakeService) -> None:
    show(page, "queue")
    expect(page.locator(".links a")).to_have_count(0)
    service.links["grafana"] = "http://grafana.example:3000/d/cyberimage"
    page.reload()
    expect(page.locator(".links a")).to_have_text(["Grafana"])
    expect(page.locator(".links a")).to_have_attribute("href", "http://grafana.example:3000/d/cyberimage")


def test_another_key_may_see_other_pages(page: Page, service: FakeService) -> None:
    show(page, "queue")
    expect(page.locator(".links a")).to_have_count(0)
    service.links["grafana"] = "http://grafana.example:3000/d/cyberimage"  # as an admin sees them
    page.click("#show-key")
    page.fill("#api-key", "ci_admin")
    page.press("#api-key", "Tab")
    expect(page.locator(".links a")).to_have_text(["Grafana"])


def test_stalled_jobs_are_put_back(queue: Page) -> None:
    queue.get_by_role("button", name="Put stalled jobs back").click()
    expect(queue.locator("#notices")).to_contain_text("No stalled job was found.")


def test_storage_is_told(queue: Page) -> None:
    expect(queue.locator("#view-queue")).to_contain_text("1 image, 123.5 MB. An owner may have 5,000 images.")
    expect(queue.locator("tbody td")).to_have_text(["10.1.2.3", "shapes", "1", "123.5 MB"])


def test_queue_without_jobs_teaches(page: Page) -> None:
    show(page, "queue")
    expect(page.locator("#view-queue")).to_contain_text("No job yet.")
    expect(page.get_by_role("heading", name="API keys")).to_be_hidden()


def test_keys_are_made_shown_once_and_revoked(page: Page, service: FakeService) -> None:
    page.click("#show-key")
    page.fill("#api-key", "ci_admin")
    page.press("#api-key", "Tab")
    show(page, "queue")
    page.fill("#key-name", "gallery")
    page.get_by_role("button", name="Make a key").click()
    expect(page.locator(".fresh-key code")).to_have_text("ci_000000000000_secret")
    assert service.keys[0]["scopes"] == ["read", "generate"]
    page.get_by_role("button", name="Revoke gallery").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.locator("#view-queue")).to_contain_text("revoked Jan")
    show(page, "generate")
    show(page, "queue")
    assert page.locator("#view-queue").inner_text().count("ci_000000000000_secret") <= 1
